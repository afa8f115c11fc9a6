"""DINOv2 (Oquab et al. 2023), built from timm's blocks.

timm's own resize of the position table is antialiased, which no published depth model was trained with. The table is
resized here by two products with matrices of bicubic weights, computed in the graph from the size of the image. One
file takes every size, and TensorRT can build it, which it cannot where scales are known at run time only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dpt_deploy.core.encoders import Dinov2Spec, Tap
from dpt_deploy.model.encoders.blocks import BlockEncoder
from dpt_deploy.model.encoders.vit import PositionEmbedding

OFFSET = 0.1  # patches, added to the new size in the original's ratio of sizes
_CUBIC = -0.75  # the coefficient of PyTorch's bicubic interpolation


class ProductPositions(PositionEmbedding):
    """Positions of the class token (1, 1, D), and those of a grid of patches, resized: (1, height * width, D)."""

    def __init__(self, spec: Dinov2Spec) -> None:
        super().__init__(spec.grid, spec.width, prefix_tokens=1)
        self.offset = OFFSET if spec.position_rule == "offset" else 0.0

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        prefix, grid = self.table[:, :1], self.table[:, 1:]
        return prefix, resized(grid.reshape(self.grid, self.grid, -1), height, width, self.offset)


def resized(grid: Tensor, height: int, width: int, offset: float) -> Tensor:
    """Positions (g, g, D) on a grid of ``height`` x ``width`` patches, in rows: (1, height * width, D).

    Bicubic, without antialiasing. ``offset`` is added to the new sizes, except at the training grid, which is the exact
    identity: one side of ``g`` alone is interpolated like any other.
    """
    side = grid.shape[0]
    rows, columns = (torch.scalar_tensor(n, dtype=grid.dtype, device=grid.device) for n in (height, width))
    at_training = _one_at_zero(rows - side) * _one_at_zero(columns - side)
    shift = offset * (1 - at_training)
    by_column = grid.transpose(0, 1).flatten(1)  # (g, g * D): OpenVINO multiplies no matrix by a stack of them
    across = (_cubic_weights(width, columns + shift, side, grid) @ by_column).reshape(width, side, -1).transpose(0, 1)
    down = _cubic_weights(height, rows + shift, side, grid)
    return (down @ across.flatten(1)).reshape(1, height * width, -1)


def _one_at_zero(distance: Tensor) -> Tensor:
    """1 at the whole number 0, and 0 at all others."""
    return (1 - distance.abs()).clamp(min=0)


def _cubic_weights(count: int, size: Tensor, side: int, like: Tensor) -> Tensor:
    """Weights (count, side) of a bicubic interpolation of ``side`` values to ``size``; borders are repeated.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4.
    """
    source = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) * (side / size) - 0.5
    first = source.floor()
    after = (source - first)[:, None]  # 0..1, distance from the second of four neighbours
    weights = torch.cat((_outer(1 + after), _inner(after), _inner(1 - after), _outer(2 - after)), dim=1)
    steps = torch.arange(-1, 3, dtype=like.dtype, device=like.device)
    neighbours = (first[:, None] + steps).clamp(0, side - 1)  # (count, 4)
    cells = torch.arange(side, dtype=like.dtype, device=like.device)
    return (_one_at_zero(neighbours[:, :, None] - cells) * weights[:, :, None]).sum(dim=1)


def _inner(distance: Tensor) -> Tensor:
    """The weight of a neighbour at up to 1."""
    return ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1


def _outer(distance: Tensor) -> Tensor:
    """The weight of a neighbour at 1 to 2."""
    return ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC


class Dinov2Encoder(BlockEncoder):
    """Tokens (B, prefix + H/P * W/P, D) of the tapped blocks, through the final norm where there is one."""

    def __init__(self, spec: Dinov2Spec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.patch = spec.patch
        self.embed = nn.ModuleDict({"proj": nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)})
        self.prefix = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.registers = nn.Parameter(torch.zeros(1, spec.registers, spec.width)) if spec.registers else None
        self.position = ProductPositions(spec)
        self.blocks = _blocks(spec, max(tap for tap in taps if isinstance(tap, int)) + 1)
        self.norm: nn.Module = nn.LayerNorm(spec.width, eps=spec.tap_norm_eps) if spec.tap_norm_eps else nn.Identity()

    @property
    def fp32(self) -> Mapping[str, str]:
        reason = "positions in 16 bits shift the patches by up to a tenth of their distance"
        return {"position": reason, **super().fp32}

    def forward(self, image: Tensor) -> list[Tensor]:
        batch, height, width = image.shape[0], image.shape[2] // self.patch, image.shape[3] // self.patch
        patches = self.embed["proj"](image).flatten(2).transpose(1, 2)
        prefix_position, grid_position = self.position(height, width)
        parts = [(self.prefix + prefix_position).expand(batch, -1, -1), patches + grid_position]
        if self.registers is not None:
            parts.insert(1, self.registers.expand(batch, -1, -1))
        tokens = torch.cat(parts, dim=1)
        features = self.tapped(tokens, height, width)
        return [self.norm(features[tap]) for tap in self.taps]


def _blocks(spec: Dinov2Spec, count: int) -> nn.Sequential:
    gated = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if spec.feed_forward == "swiglu" else {}
    vit = VisionTransformer(
        img_size=spec.patch,
        patch_size=spec.patch,
        embed_dim=spec.width,
        depth=count,
        num_heads=spec.heads,
        mlp_ratio=spec.feed_forward_ratio,
        init_values=1.0,
        norm_layer=partial(nn.LayerNorm, eps=spec.norm_eps),
        num_classes=0,
        global_pool="",
        final_norm=False,
        weight_init="skip",
        **gated,
    )
    blocks: nn.Sequential = vit.blocks
    return blocks
