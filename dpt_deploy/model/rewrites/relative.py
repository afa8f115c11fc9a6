"""Exact rewrites of encoders with relative positions: constants of a trained block are computed once.

    rewrite                                            why it is exact
    gain of a channel (LayerScale) in the layer before both are linear: g (W x + b) = (g W) x + g b
    biases of queries and values, none for keys        one bias vector with zeros in the middle
    BEiT's table of offsets stored as an image         the same numbers, in the order in which they are resized
    Swin V2's network of positions, its bound and its  they depend on the window alone
    scale of cosines as constants

The products of windows and tables stay in the graph: the biases of all pairs of a large Swin V2 would take as much
space as its weights. Runtimes that fold constants do so when they load the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.model.encoders.beit import BeitAttention, BeitBlock, RelativePosition, attend, gather_bias
from dpt_deploy.model.encoders.swin import CosineAttention, CosineScores, ScaledScores, weigh
from dpt_deploy.model.encoders.swin import attend as attend_in_windows


def constant(tensor: Tensor) -> nn.Parameter:
    """A tensor as a parameter that is not trained."""
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=False)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer with these values."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = constant(weight), constant(bias)
    return layer


def with_gain(layer: nn.Linear, gain: Tensor) -> nn.Linear:
    """The layer with each output multiplied by its ``gain``."""
    return linear(layer.weight * gain[:, None], layer.bias * gain)


class DeployedBeitBlock(nn.Module):
    """:class:`BeitBlock` with its gains in the weights."""

    def __init__(self, block: BeitBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attn = DeployedBeitAttention(block.attn, block.gamma_1)
        self.mlp.fc2 = with_gain(block.mlp.fc2, block.gamma_2)

    def forward(self, tokens: Tensor, index: Tensor, height: int, width: int) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), index, height, width)
        return tokens + self.mlp(self.norm2(tokens))


class DeployedBeitAttention(nn.Module):
    """:class:`BeitAttention` with one bias vector, and a gain in its last layer."""

    def __init__(self, attention: BeitAttention, gain: Tensor) -> None:
        super().__init__()
        self.heads = attention.heads
        self.qkv = linear(attention.qkv.weight, attention.bias)
        self.position = DeployedRelativePosition(attention.position)
        self.proj = with_gain(attention.proj, gain)

    def forward(self, tokens: Tensor, index: Tensor, height: int, width: int) -> Tensor:
        return self.proj(attend(self.qkv(tokens), self.heads, self.position(index, height, width)))


class DeployedRelativePosition(nn.Module):
    """:class:`RelativePosition` with its grid stored as an image (1, heads, S, S)."""

    def __init__(self, position: RelativePosition) -> None:
        super().__init__()
        self.offsets, self.readout = (constant(part) for part in position.parts)

    def forward(self, index: Tensor, height: int, width: int) -> Tensor:
        return gather_bias(self.offsets, self.readout, index, height, width)


class DeployedCosineAttention(nn.Module):
    """:class:`CosineAttention` with one bias vector."""

    def __init__(self, attention: CosineAttention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.qkv = linear(attention.qkv.weight, attention.bias)
        self.scores = attention.scores
        self.proj = attention.proj

    def forward(self, windows: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        return self.proj(attend_in_windows(self.scores, self.qkv(windows), self.heads, rows, mask))


class DeployedCosineScores(nn.Module):
    """:class:`CosineScores` with its biases and its scale as constants."""

    def __init__(self, scores: CosineScores) -> None:
        super().__init__()
        with torch.no_grad():
            self.table, self.scale = constant(scores.table()), constant(scores.scale())

    def forward(self, query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        logits = (F.normalize(query, dim=-1) * self.scale) @ F.normalize(key, dim=-1).transpose(2, 3)
        return weigh(logits, self.table, rows, mask)


class DeployedScaledScores(nn.Module):
    """:class:`ScaledScores` with its table in the order in which it is read."""

    def __init__(self, scores: ScaledScores) -> None:
        super().__init__()
        self.factor, self.table = scores.factor, constant(scores.table.transpose(0, 1))

    def forward(self, query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        return weigh((query * self.factor) @ key.transpose(2, 3), self.table, rows, mask)


def rewritten(module: nn.Module) -> nn.Module:
    """The deployed form of a part of these encoders; any other module as it is."""
    if isinstance(module, BeitBlock):
        return DeployedBeitBlock(module)
    if isinstance(module, CosineAttention):
        return DeployedCosineAttention(module)
    if isinstance(module, CosineScores):
        return DeployedCosineScores(module)
    return DeployedScaledScores(module) if isinstance(module, ScaledScores) else module
