"""The transformer encoder: patches, read-out token(s), position table and blocks (paper §3.1).

Built from timm's Vision Transformer; what DPT never uses (final norm, classifier, blocks past the last tap) is left
out, so that neither the state dict nor the exported graph carries dead weights.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dpt_deploy.core.encoders import PositionResize, Tap, TransformerSpec, ViTSpec
from dpt_deploy.model.encoders.blocks import BlockEncoder
from dpt_deploy.model.encoders.tables import resized_table


class PositionEmbedding(nn.Module):
    """Learned positions, resized to the image's own patch grid (paper §3.1, "Handling varying image sizes").

    The grid part is resized by :func:`resize_grid`; the rows of the leading tokens are kept. At the training grid the
    resize is the exact identity.
    """

    def __init__(self, grid: int, width: int, prefix_tokens: int, resize: PositionResize = "bilinear") -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.grid = grid
        self.resize = resize
        self.table = nn.Parameter(torch.zeros(1, prefix_tokens + grid * grid, width))

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Positions for a patch grid of ``height`` x ``width``: (1, prefix, D) and (1, height * width, D)."""
        prefix, grid = self.table[:, : self.prefix_tokens], self.table[:, self.prefix_tokens :]
        grid = grid.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        return prefix, resize_grid(grid, height, width, self.resize).flatten(2).transpose(1, 2)


def resize_grid(grid: Tensor, height: int, width: int, rule: PositionResize) -> Tensor:
    """Positions (1, D, g, g) on a patch grid of ``height`` x ``width``: (1, D, height, width).

    ``bilinear`` has half-pixel centres and no antialiasing, as the published models were trained. ``nearest`` repeats
    positions: row ``i`` is row ``i * g // height`` of the table, in integers, because the floating-point indices of
    PyTorch and ONNX Runtime part at some sizes (6 to 74, for one). ``tiled`` begins the table anew beyond its edge, as
    code does that never resized it.
    """
    if rule == "bilinear":
        return resized_table(grid, height, width)
    rows, columns = (torch.arange(side, device=grid.device) for side in (height, width))
    if rule == "nearest":
        rows, columns = rows * grid.shape[2] // height, columns * grid.shape[3] // width
    else:
        rows, columns = rows % grid.shape[2], columns % grid.shape[3]
    return grid.index_select(2, rows).index_select(3, columns)


class TransformerEncoder(BlockEncoder):
    """Un-normalised tokens (B, prefix + H/P * W/P, D) of the tapped blocks, on patches of P pixels.

    ``embed`` makes the patch tokens, and the feature maps of its stages where it has any: those may be tapped too.
    """

    def __init__(self, spec: TransformerSpec, taps: tuple[Tap, ...], embed: nn.Module) -> None:
        super().__init__()
        blocks = [tap for tap in taps if isinstance(tap, int)]
        vit = VisionTransformer(
            img_size=spec.grid * spec.patch,
            patch_size=spec.patch,
            embed_dim=spec.width,
            depth=max(blocks) + 1,
            num_heads=spec.heads,
            norm_layer=partial(nn.LayerNorm, eps=spec.norm_eps),
            num_classes=0,
            global_pool="",
            final_norm=False,
            weight_init="skip",
        )
        self.taps = taps
        self.patch = spec.patch
        self.embed = embed
        self.prefix = nn.Parameter(torch.zeros(1, spec.prefix_tokens, spec.width))
        self.position = PositionEmbedding(spec.grid, spec.width, spec.prefix_tokens, spec.position_resize)
        self.blocks = vit.blocks

    def forward(self, image: Tensor) -> list[Tensor]:
        batch, height, width = image.shape[0], image.shape[2] // self.patch, image.shape[3] // self.patch
        patches, stages = self.embed(image)  # (B, N, D), {"stage0": (B, C, H/4, W/4), …}
        prefix_position, grid_position = self.position(height, width)
        prefix = (self.prefix + prefix_position).expand(batch, -1, -1)
        tokens = torch.cat((prefix, patches + grid_position), dim=1)
        features: dict[Tap, Tensor] = {**stages, **self.tapped(tokens, height, width)}
        return [features[tap] for tap in self.taps]


class PatchEmbed(nn.Module):
    """Non-overlapping patches of ``patch`` pixels, flattened and projected linearly to D channels (paper §3.1)."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) to tokens (B, H/patch * W/patch, D); a plain ViT has no stages to tap."""
        return self.proj(image).flatten(2).transpose(1, 2), {}


class ViTEncoder(TransformerEncoder):
    """A plain Vision Transformer."""

    def __init__(self, spec: ViTSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__(spec, taps, PatchEmbed(spec))
