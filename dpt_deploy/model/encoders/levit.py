"""LeViT: a transformer on shrinking grids, with a bias of attention for each offset of tokens (Graham et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpt_deploy.core.encoders import LeViTSpec, Tap
from dpt_deploy.core.encoders.base import stage_of
from dpt_deploy.model.encoders.base import Encoder
from dpt_deploy.model.encoders.norms import LinearNorm

_VALUES, _HALVING_VALUES = 2, 4  # width of values, in that of keys
_MLP = 2  # width of the perceptrons, in that of the stage


class ConvNorm(nn.Module):
    """Convolution 3x3 of stride 2, and batch norm."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / 2), ceil(w / 2))."""
        out: Tensor = self.norm(self.conv(x))
        return out


class AttentionBias(nn.Module):
    """A learned number for each head and each distance of two tokens in rows and columns.

    Queries stand at every ``stride``-th row and column of the grid, keys at all of them.
    """

    def __init__(self, heads: int, grid: int, stride: int = 1) -> None:
        super().__init__()
        self.grid, self.stride = grid, stride
        self.table = nn.Parameter(torch.zeros(heads, grid * grid))

    def forward(self) -> Tensor:
        """(heads, queries, keys)."""
        keys = torch.arange(self.grid, device=self.table.device)
        distance = (keys[:: self.stride, None] - keys[None, :]).abs()  # along one axis: (queries, keys)
        rows, columns = distance[:, None, :, None], distance[None, :, None, :]
        index = (rows * self.grid + columns).flatten(2).flatten(0, 1)
        return self.table[:, index]


class Attention(nn.Module):
    """Multi-head attention with biases."""

    def __init__(self, width: int, key_width: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads = heads
        self.widths = (key_width, key_width, _VALUES * key_width)
        self.qkv = LinearNorm(width, heads * sum(self.widths))
        self.bias = AttentionBias(heads, grid)
        self.proj = nn.Sequential(nn.Hardswish(), LinearNorm(heads * self.widths[2], width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        query, key, value = _cut(_heads(self.qkv(tokens), self.heads), self.widths)
        out: Tensor = self.proj(attend(query, key, value, self.bias()))
        return out


class HalvingAttention(nn.Module):
    """Attention whose queries are every other token of every other row: the grid is halved and rounded up."""

    def __init__(self, width: int, out: int, key_width: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.widths = (key_width, _HALVING_VALUES * key_width)
        self.kv = LinearNorm(width, heads * sum(self.widths))
        self.q = LinearNorm(width, heads * key_width)
        self.bias = AttentionBias(heads, grid, stride=2)
        self.proj = nn.Sequential(nn.Hardswish(), LinearNorm(heads * self.widths[1], out))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N', out)."""
        key, value = _cut(_heads(self.kv(tokens), self.heads), self.widths)
        kept = tokens.reshape(-1, self.grid, self.grid, tokens.shape[2])[:, ::2, ::2].flatten(1, 2)
        query = _heads(self.q(kept), self.heads)
        out: Tensor = self.proj(attend(query, key, value, self.bias()))
        return out


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, D) to (B, heads, N, D / heads)."""
    return tokens.reshape(-1, tokens.shape[1], heads, tokens.shape[2] // heads).transpose(1, 2)


def _cut(parts: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    """Consecutive slices of the last axis, of ``widths``."""
    return [parts[..., sum(widths[:at]) : sum(widths[: at + 1])] for at in range(len(widths))]


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of (B, heads, N, D) to (B, heads, M, D) and values (B, heads, M, V): (B, N, heads * V).

    Queries are scaled first, as products in 16 bits want it.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + bias
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """``x + branch(x)``."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        return tokens + self.branch(tokens)


def make_perceptron(width: int) -> nn.Module:
    """Two linear layers with batch norms, and a hard swish between them."""
    return nn.Sequential(LinearNorm(width, _MLP * width), nn.Hardswish(), LinearNorm(_MLP * width, width))


class LeViTEncoder(Encoder):
    """LeViT up to the last tapped block: (B, 3, side, side) to the maps (B, C, grid, grid) of the tapped blocks."""

    def __init__(self, spec: LeViTSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps, self.spec = taps, spec
        first = spec.stage_channels[0]
        widths = (3, first // 8, first // 4, first // 2, first)
        self.stem = nn.Sequential()
        for at in range(4):
            self.stem.append(ConvNorm(widths[at], widths[at + 1]))
            if at < 3:
                self.stem.append(nn.Hardswish())
        last = max(tap for tap in taps if isinstance(tap, int))
        self.blocks = nn.ModuleList(_blocks(spec)[: last + 1])

    @property
    def comparable(self) -> tuple[str, ...]:
        return ("stem", *(f"blocks.{index}" for index in range(len(self.blocks))))

    def forward(self, image: Tensor) -> list[Tensor]:
        tokens = self.stem(image).flatten(2).transpose(1, 2)
        features: dict[Tap, Tensor] = {}
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                grid = self.spec.grids[stage_of(index, self.spec.halves)]
                features[index] = tokens.transpose(1, 2).reshape(-1, tokens.shape[2], grid, grid)
        return [features[tap] for tap in self.taps]


def _blocks(spec: LeViTSpec) -> list[nn.Module]:
    """The halves of all stages, in order."""
    made: list[nn.Module] = []
    for stage, width in enumerate(spec.stage_channels):
        if stage:
            before = spec.stage_channels[stage - 1]
            heads = before // spec.key_width
            made.append(HalvingAttention(before, width, spec.key_width, heads, spec.grids[stage - 1]))
            made.append(Residual(make_perceptron(width)))
        for _ in range(spec.stage_blocks[stage]):
            made.append(Residual(Attention(width, spec.key_width, spec.stage_heads[stage], spec.grids[stage])))
            made.append(Residual(make_perceptron(width)))
    return made
