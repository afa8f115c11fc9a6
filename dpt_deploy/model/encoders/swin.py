"""Swin Transformers, versions 1 and 2: four stages of blocks whose attention stays inside windows (MiDaS 3.1).

Inside, a map is the sequence of its cells, row by row. The tap of a stage is its last block, before the map is halved
and without the norm that classifiers and some libraries add.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn

from dpt_deploy.core.encoders import PAPER_STRIDES, Swin2Spec, Tap, WindowedSpec
from dpt_deploy.core.encoders.swin import PATCH
from dpt_deploy.model.encoders.base import Encoder
from dpt_deploy.model.encoders.windows import MapWindows, Partition, offset_rows

_MAX_LOG_SCALE = math.log(100.0)  # of cosine attention's logits (Swin V2, equation 3 and after)
_POSITION_WIDTH = 512  # hidden width of the network that turns offsets into biases
_LARGEST_BIAS = 16.0
_REASON = "logits reach a hundred, where 16 bits have steps of 0.06 and more"


class WindowEncoder(Encoder):
    """Image (B, 3, H, W) to the maps (B, C, H/s, W/s) of the tapped stages; H and W are multiples of 32.

    The windows are those of the training size, whatever the size of the image
    (:mod:`dpt_deploy.model.encoders.windows`).
    """

    def __init__(self, spec: WindowedSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, spec.width, kernel_size=PATCH, stride=PATCH), "norm": nn.LayerNorm(spec.width)}
        )
        self.stages = nn.ModuleList(SwinStage(spec, stage) for stage in range(len(spec.stages)))

    @property
    def comparable(self) -> tuple[str, ...]:
        names = []
        for index, stage in enumerate(self._stages):
            names += [f"stages.{index}.blocks.{block}" for block in range(len(stage.blocks))]
            names += [f"stages.{index}.merge"] if stage.merge is not None else []
        return tuple(names)

    @property
    def fp32(self) -> dict[str, str]:
        return {
            f"stages.{index}.{part}": _REASON
            for index, stage in enumerate(self._stages)
            for part in (f"blocks.{block}.attn.scores" for block in range(len(stage.blocks)))
        }

    @property
    def constants(self) -> frozenset[int]:
        """Numbers that are added to the side of a map to round it up to whole windows."""
        return frozenset(stage.windows.side - 1 for stage in self._stages if not stage.windows.aligned)

    @property
    def _stages(self) -> list[SwinStage]:
        return cast("list[SwinStage]", list(self.stages))

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[2] // PATCH, image.shape[3] // PATCH
        x = self.embed["norm"](self.embed["proj"](image).flatten(2).transpose(1, 2))
        features: dict[Tap, Tensor] = {}
        for number, stage in enumerate(self._stages):
            partitions = stage.windows(height, width, x)
            rows = offset_rows(stage.windows.side, device=x.device)
            for index, block in enumerate(stage.blocks):
                x = block(x, partitions[index % 2], rows)
            features[f"stage{number}"] = x.transpose(1, 2).reshape(-1, x.shape[2], height, width)
            if stage.merge is not None:
                height, width = height // 2, width // 2
                x = stage.merge(x, height, width)
        return [features[tap] for tap in self.taps]


class SwinStage(nn.Module):
    """The parts of one stage; the encoder runs them."""

    def __init__(self, spec: WindowedSpec, stage: int) -> None:
        super().__init__()
        width, windows = spec.stages[stage], spec.windows[stage]
        is_second = isinstance(spec, Swin2Spec)
        self.windows = MapWindows(windows, aligned=spec.size_step % (int(PAPER_STRIDES[stage]) * windows.side) == 0)
        block = PostNormBlock if is_second else PreNormBlock
        self.blocks = nn.ModuleList(block(width, _attention(spec, stage)) for _ in range(spec.depths[stage]))
        merge = PostNormMerging if is_second else PreNormMerging
        self.merge = merge(width) if stage + 1 < len(spec.stages) else None


def _attention(spec: WindowedSpec, stage: int) -> nn.Module:
    width, heads, side = spec.stages[stage], spec.heads[stage], spec.windows[stage].side
    if isinstance(spec, Swin2Spec):
        return CosineAttention(width, heads, side, spec.pretrained_windows[stage])
    return TableAttention(width, heads, side)


class PreNormBlock(nn.Module):
    """Windowed attention and MLP, each behind a norm (Swin)."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor, windows: Partition, rows: Tensor) -> Tensor:
        """Cells (B, H * W, C) to the same shape; ``rows`` are those of :func:`offset_rows`."""
        x = x + windows.merge(self.attn(windows.split(self.norm1(x)), rows, windows.mask))
        return x + self.mlp(self.norm2(x))


class PostNormBlock(nn.Module):
    """Windowed attention and MLP, each in front of a norm (Swin V2)."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.attn = attention
        self.norm1 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, windows: Partition, rows: Tensor) -> Tensor:
        """Cells (B, H * W, C) to the same shape; ``rows`` are those of :func:`offset_rows`."""
        x = x + self.norm1(windows.merge(self.attn(windows.split(x), rows, windows.mask)))
        return x + self.norm2(self.mlp(x))


class PreNormMerging(nn.Module):
    """Halve a map: four neighbours become one cell of twice the width, behind a norm (Swin)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Cells (B, 4 * height * width, C) to (B, height * width, 2 C)."""
        return self.reduction(self.norm(_neighbours(x, height, width)))


class PostNormMerging(nn.Module):
    """Halve a map: four neighbours become one cell of twice the width, in front of a norm (Swin V2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Cells (B, 4 * height * width, C) to (B, height * width, 2 C)."""
        return self.norm(self.reduction(_neighbours(x, height, width)))


def _neighbours(x: Tensor, height: int, width: int) -> Tensor:
    """Cells (B, 4 * height * width, C) to (B, height * width, 4 C), the cells of a square column by column."""
    x = x.reshape(-1, height, 2, width, 2, x.shape[2]).permute(0, 1, 3, 4, 2, 5)
    return x.reshape(-1, height * width, 4 * x.shape[5])


class TableAttention(nn.Module):
    """Attention inside windows with a learned bias for each offset of two cells (Swin)."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.scores = ScaledScores(heads, side, width // heads)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (B * windows, N, C) to the same shape."""
        return self.proj(attend(self.scores, self.qkv(windows), self.heads, rows, mask))


class CosineAttention(nn.Module):
    """Attention by cosine inside windows, with a bias that a small network makes of the offset (Swin V2).

    The keys have no bias of their own.
    """

    def __init__(self, width: int, heads: int, side: int, pretrained_side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.scores = CosineScores(heads, side, pretrained_side)
        self.proj = nn.Linear(width, width)

    @property
    def bias(self) -> Tensor:
        """Bias of queries, keys and values, (3 C,)."""
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def forward(self, windows: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (B * windows, N, C) to the same shape."""
        qkv = F.linear(windows, self.qkv.weight, self.bias)
        return self.proj(attend(self.scores, qkv, self.heads, rows, mask))


def attend(scores: nn.Module, qkv: Tensor, heads: int, rows: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of ``qkv`` (B * windows, N, 3 C): (B * windows, N, C)."""
    query, key, value = qkv.reshape(qkv.shape[0], -1, 3, heads, qkv.shape[2] // (3 * heads)).permute(2, 0, 3, 1, 4)
    return (scores(query, key, rows, mask) @ value).transpose(1, 2).flatten(2)


def weigh(logits: Tensor, table: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax of ``logits`` (B * windows, heads, N, N) with the biases of ``table`` (heads, offsets) and the mask."""
    cells = rows.shape[0]
    logits = logits + table.index_select(1, rows.flatten()).reshape(-1, cells, cells)
    if mask is None:
        return logits.softmax(dim=-1)
    apart = logits.reshape(-1, mask.shape[0], *logits.shape[1:]) + mask
    return apart.flatten(0, 1).softmax(dim=-1)


class ScaledScores(nn.Module):
    """Weights of attention by scaled products, with a table of relative positions (offsets, heads)."""

    def __init__(self, heads: int, side: int, head_width: int) -> None:
        super().__init__()
        self.factor = head_width**-0.5
        self.table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))

    def forward(self, query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Queries and keys (B * windows, heads, N, d) to weights (B * windows, heads, N, N)."""
        return weigh((query * self.factor) @ key.transpose(2, 3), self.table.transpose(0, 1), rows, mask)


class CosineScores(nn.Module):
    """Weights of attention by scaled cosines (Swin V2, equation 3), with continuous relative positions.

    The offset of two cells, on a logarithmic scale, goes through a network of two layers. Offsets are scaled by the
    window of an earlier training where there was one.
    """

    def __init__(self, heads: int, side: int, pretrained_side: int) -> None:
        super().__init__()
        self.side = side
        self.unit = max((pretrained_side or side) - 1, 1)
        self.logit_scale = nn.Parameter(torch.zeros(heads, 1, 1))
        self.position = nn.Sequential(
            nn.Linear(2, _POSITION_WIDTH), nn.ReLU(), nn.Linear(_POSITION_WIDTH, heads, bias=False)
        )

    def table(self) -> Tensor:
        """Biases (heads, offsets) of the offsets of two cells (Swin V2, equation 4)."""
        device = self.logit_scale.device
        offsets = torch.arange(1 - self.side, self.side, device=device).float() / self.unit * 8
        offsets = offsets.sign() * torch.log2(offsets.abs() + 1.0) / math.log2(8)
        count = 2 * self.side - 1
        down, across = offsets[:, None].expand(count, count), offsets[None, :].expand(count, count)
        biases = self.position(torch.stack((down, across), dim=2)).flatten(0, 1).transpose(0, 1)
        return _LARGEST_BIAS * biases.sigmoid()

    def scale(self) -> Tensor:
        """Factor of the cosines of each head, (heads, 1, 1), 100 at most."""
        return self.logit_scale.clamp(max=_MAX_LOG_SCALE).exp()

    def forward(self, query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Queries and keys (B * windows, heads, N, d) to weights (B * windows, heads, N, N)."""
        cosines = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(2, 3)
        return weigh(cosines * self.scale(), self.table(), rows, mask)
