"""BEiT: a Vision Transformer with a table of relative positions in every block (MiDaS 3.1).

The tables are resized to the image's own patch grid as MiDaS does it, bilinearly. timm resizes them by another rule
(bicubic, and geometric where asked), which gives other numbers off the training size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from dpt_deploy.core.encoders import BeitSpec, Tap
from dpt_deploy.model.encoders.base import Encoder
from dpt_deploy.model.encoders.tables import resized_table

_READOUT_ROWS = 3  # of a table: read-out token to patches, patches to read-out token, read-out token to itself


class BeitEncoder(Encoder):
    """Un-normalised tokens (B, 1 + H/P * W/P, D) of the tapped blocks, on patches of P pixels."""

    def __init__(self, spec: BeitSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.patch = spec.patch
        self.embed = nn.ModuleDict({"proj": nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)})
        self.prefix = nn.Parameter(torch.zeros(1, 1, spec.width))
        depth = max(tap for tap in taps if isinstance(tap, int)) + 1
        self.blocks = nn.ModuleList(BeitBlock(spec) for _ in range(depth))

    @property
    def comparable(self) -> tuple[str, ...]:
        return tuple(f"blocks.{index}" for index in range(len(self.blocks)))

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[2] // self.patch, image.shape[3] // self.patch
        patches = self.embed["proj"](image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.prefix.expand(image.shape[0], -1, -1), patches), dim=1)
        index = pair_rows(height, width, device=image.device)
        features: dict[Tap, Tensor] = {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, index, height, width)
            features[number] = tokens
        return [features[tap] for tap in self.taps]


def pair_rows(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Rows of a table for a grid of ``height`` x ``width`` patches, of every pair of tokens: (1 + N, 1 + N).

    Token 0 is the read-out token. Patches at an offset of (dy, dx) have row
    ``(dy + height - 1) * (2 * width - 1) + dx + width - 1``; the pairs of the read-out token have the last three rows.
    """
    row, column = (torch.arange(side, device=device) for side in (height, width))
    down = (row[:, None] - row[None, :] + (height - 1)) * (2 * width - 1)
    across = column[:, None] - column[None, :] + (width - 1)
    patches = (down[:, None, :, None] + across[None, :, None, :]).reshape(height * width, height * width)
    grid_rows = (2 * height - 1) * (2 * width - 1)
    from_readout = torch.zeros_like(patches[:1]) + grid_rows
    to_readout = torch.zeros_like(patches[:, :1]) + (grid_rows + 1)
    itself = torch.zeros_like(patches[:1, :1]) + (grid_rows + 2)
    first = torch.cat((itself, from_readout), dim=1)
    return torch.cat((first, torch.cat((to_readout, patches), dim=1)), dim=0)


class RelativePosition(nn.Module):
    """Learned bias for each offset of two patches, and for the pairs of the read-out token: (rows, heads).

    The offsets are a grid of ``2 * grid - 1`` a side. For an image of another grid it is resized bilinearly with
    half-pixel centres; the last three rows stay. At the training grid the resize is the exact identity.
    """

    def __init__(self, grid: int, heads: int) -> None:
        super().__init__()
        self.side = 2 * grid - 1
        self.table = nn.Parameter(torch.zeros(self.side**2 + _READOUT_ROWS, heads))

    def forward(self, index: Tensor, height: int, width: int) -> Tensor:
        """Bias (1, heads, 1 + N, 1 + N) of a grid of ``height`` x ``width`` patches (see :func:`pair_rows`)."""
        return gather_bias(*self.parts, index, height, width)

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """The offsets as an image (1, heads, side, side), and the rows of the read-out token (heads, 3)."""
        by_head = self.table.transpose(0, 1)
        return by_head[:, :-_READOUT_ROWS].reshape(1, -1, self.side, self.side), by_head[:, -_READOUT_ROWS:]


def gather_bias(offsets: Tensor, readout: Tensor, index: Tensor, height: int, width: int) -> Tensor:
    """Bias (1, heads, 1 + N, 1 + N) from ``offsets`` (1, heads, S, S) and ``readout`` (heads, 3)."""
    resized = resize_offsets(offsets, 2 * height - 1, 2 * width - 1)
    table = torch.cat((resized.flatten(2).squeeze(0), readout), dim=1)
    return table.index_select(1, index.flatten()).reshape(1, -1, index.shape[0], index.shape[1])


def resize_offsets(offsets: Tensor, height: int, width: int) -> Tensor:
    """Offsets (1, heads, S, S) to (1, heads, height, width), as MiDaS resizes them."""
    return resized_table(offsets, height, width)


class BeitAttention(nn.Module):
    """Self-attention with a bias for each pair of tokens; the keys have no bias of their own."""

    def __init__(self, spec: BeitSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.qkv = nn.Linear(spec.width, 3 * spec.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(spec.width))
        self.v_bias = nn.Parameter(torch.zeros(spec.width))
        self.position = RelativePosition(spec.grid, spec.heads)
        self.proj = nn.Linear(spec.width, spec.width)

    @property
    def bias(self) -> Tensor:
        """Bias of queries, keys and values, (3 D,)."""
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def forward(self, tokens: Tensor, index: Tensor, height: int, width: int) -> Tensor:
        """(B, 1 + N, D) to the same shape."""
        qkv = F.linear(tokens, self.qkv.weight, self.bias)
        return self.proj(attend(qkv, self.heads, self.position(index, height, width)))


def attend(qkv: Tensor, heads: int, bias: Tensor) -> Tensor:
    """Attention of ``qkv`` (B, T, 3 D) with an additive ``bias`` (1, heads, T, T): (B, T, D)."""
    batch, count, width = qkv.shape
    query, key, value = qkv.reshape(batch, count, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


class BeitBlock(nn.Module):
    """Attention and MLP, each behind a norm and in front of a gain for each channel (LayerScale)."""

    def __init__(self, spec: BeitSpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.width, eps=spec.norm_eps)
        self.attn = BeitAttention(spec)
        self.norm2 = nn.LayerNorm(spec.width, eps=spec.norm_eps)
        self.mlp = Mlp(spec.width, 4 * spec.width)
        self.gamma_1 = nn.Parameter(torch.ones(spec.width))
        self.gamma_2 = nn.Parameter(torch.ones(spec.width))

    def forward(self, tokens: Tensor, index: Tensor, height: int, width: int) -> Tensor:
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens), index, height, width)
        return tokens + self.gamma_2 * self.mlp(self.norm2(tokens))
