"""Token clustering: later blocks work on cluster centres, and the taps get tokens of full resolution back.

An approximation without training and without weights of its own.

Source: Liang et al. 2022, "Expediting Large-Scale Vision Transformer for Dense Prediction without Fine-tuning",
section 3: token clustering layer and token reconstruction layer; constants of its published code.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from dpt_deploy.core.encoders.base import Tokens
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.encoders.blocks import BlockEncoder, FewerTokens

WINDOW = 5  # clusters a side that a token may join, around its own place; odd
ITERATIONS = 5
TEMPERATURE = 1.0  # of the clustering, as published for DPT
NEIGHBOURS = 20  # centres that a token is reconstructed from, as published
SOFTNESS = 0.02  # temperature of that reconstruction, as published for segmentation
MAX_SIDE = 256  # clusters

_FAR = -1e16  # score of a cluster outside the window
_LEAST = 1e-16  # sum of weights that a centre is divided by


class ReduceTokens(nn.Module):
    """Tokens to ``rows`` x ``columns`` cluster centres, behind the ``prefix`` leading tokens, which stay as they are.

    Where an image has fewer rows of tokens than ``rows``, there are as many rows of centres as of tokens (and so for
    columns): the published code makes equal centres there, which rounding alone tells apart.

    The centres start as the means of a grid of cells (adaptive average pooling). A few times, each token gives itself
    to the centres near its place, by a softmax over the squared distances, and each centre becomes the weighted mean of
    its tokens. Everything is computed in FP32.
    """

    def __init__(self, rows: int, columns: int, prefix: int, neighbours: int = 0) -> None:
        super().__init__()
        self.rows, self.columns, self.prefix = rows, columns, prefix
        self.neighbours = min(neighbours, rows * columns)
        self.radius, self.iterations, self.temperature = WINDOW // 2, ITERATIONS, TEMPERATURE
        self.softness = SOFTNESS

    def forward(self, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(B, prefix + N, D), with N = ``height`` * ``width``, to (B, prefix + M, D) and the tokens' memory.

        The memory is the nearest centre of each token, (B, N) int64; with ``neighbours``, the weights (B, N, M) of its
        nearest ones.
        """
        rows, columns = smaller(self.rows, height), smaller(self.columns, width)
        grid = tokens[:, self.prefix :].float()
        origin = grid.mean(dim=1, keepdim=True)  # distances from it are the same, and lose fewer bits
        centred = grid - origin
        near = outer(self._within(height, rows, grid), self._within(width, columns, grid))
        far = _FAR * (1.0 - near)
        centres = outer(cell_means(height, rows, grid), cell_means(width, columns, grid)) @ grid
        for _ in range(self.iterations):
            weights = (self.temperature * closeness(centred, centres - origin) + far).softmax(dim=2)
            total = weights.sum(dim=1).clamp(min=_LEAST)
            centres = (weights.transpose(1, 2) @ grid) / total[:, :, None]
        close = closeness(centred, centres - origin)
        reduced = torch.cat((tokens[:, : self.prefix], centres.to(tokens.dtype)), dim=1)
        return reduced, self._weights(close, rows * columns) if self.neighbours else close.argmax(dim=2)

    def _within(self, count: int, cells: int, like: Tensor) -> Tensor:
        """1 where the cell is at most ``radius`` from that of the token, else 0, along one side: (count, cells)."""
        home = torch.arange(count, device=like.device) * cells // count
        distance = home[:, None] - torch.arange(cells, device=like.device)
        return (distance.abs() <= self.radius).to(like.dtype)

    def _weights(self, close: Tensor, count: int) -> Tensor:
        """Weights (B, N, M) of the ``neighbours`` nearest of ``count`` centres, which sum to one; 0 elsewhere."""
        least = close.topk(smaller(self.neighbours, count), dim=2).values[:, :, -1:]
        return (self.softness * close + _FAR * (least - close).clamp(min=0)).softmax(dim=2)


def smaller(one: int, other: int) -> int:
    """The smaller number; of symbols, while a graph is traced."""
    return cast("int", torch.sym_min(one, other))


def outer(down: Tensor, across: Tensor) -> Tensor:
    """Products of what holds along the two sides: (h, r) and (w, c) to (1, h * w, r * c)."""
    product = down[:, None, :, None] * across[None, :, None, :]
    return product.flatten(2).flatten(0, 1)[None]


def cell_means(count: int, cells: int, like: Tensor) -> Tensor:
    """Weights (cells, count) of an adaptive average: cell i covers ⌊i n / c⌋ to ⌈(i + 1) n / c⌉."""
    cell, place = torch.arange(cells, device=like.device), torch.arange(count, device=like.device)
    first, behind = cell * count // cells, ((cell + 1) * count + cells - 1) // cells
    inside = (place >= first[:, None]) & (place < behind[:, None])
    return inside.to(like.dtype) / (behind - first)[:, None].to(like.dtype)


def closeness(tokens: Tensor, centres: Tensor) -> Tensor:
    """Negative squared distances (B, N, M) of ``tokens`` (B, N, D) and ``centres`` (B, M, D), plus |token|²."""
    return 2.0 * tokens @ centres.transpose(1, 2) - centres.square().sum(dim=2)[:, None]


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Select from the tokens (B, M, D) those at ``places`` (B, N): (B, N, D)."""
    batch, count, width = tokens.shape
    rows = places + count * torch.arange(batch, device=places.device)[:, None]
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).reshape(batch, -1, width)


class NearestCentre(nn.Module):
    """Each token becomes the centre that was nearest to it, or the token that it was merged into."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor, nearest: Tensor) -> Tensor:
        """(B, prefix + M, D) and (B, N) to (B, prefix + N, D)."""
        return torch.cat((tokens[:, : self.prefix], taken(tokens[:, self.prefix :], nearest)), dim=1)


class WeightedCentres(nn.Module):
    """Each token becomes the weighted mean of the centres that were near it."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """(B, prefix + M, D) and (B, N, M) to (B, prefix + N, D)."""
        found = weights.to(tokens.dtype) @ tokens[:, self.prefix :]
        return torch.cat((tokens[:, : self.prefix], found), dim=1)


def cluster_tokens(model: DPT, layer: float, height: float, width: float) -> DPT:
    """A copy of ``model`` with ``height`` x ``width`` clusters behind the block ``layer``, restored by the nearest."""
    return _clustered(model, layer, height, width, 0)


def cluster_tokens_softly(model: DPT, layer: float, height: float, width: float) -> DPT:
    """As :func:`cluster_tokens`, but restored by means of the :data:`NEIGHBOURS` nearest centres."""
    return _clustered(model, layer, height, width, NEIGHBOURS)


def _clustered(model: DPT, layer: float, height: float, width: float, neighbours: int) -> DPT:
    check_clusters(model.spec, None, layer=layer, height=height, width=width)
    prefix, rows, columns = tokens_of(model.spec).prefix, int(height), int(width)
    reduce = ReduceTokens(rows, columns, prefix, neighbours)
    restore = WeightedCentres(prefix) if neighbours else NearestCentre(prefix)
    constants = frozenset({rows, columns, rows * columns, rows * columns + prefix, reduce.neighbours})
    return with_fewer(model, int(layer), reduce, restore, constants)


def with_fewer(model: DPT, layer: int, reduce: nn.Module, restore: nn.Module, constants: frozenset[int]) -> DPT:
    """A copy of ``model``, sharing its tensors, with fewer tokens behind the block ``layer``."""
    tensors = [*model.parameters(), *model.buffers()]
    copied = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    if not isinstance(copied.encoder, BlockEncoder):
        raise TypeError(f"{type(copied.encoder).__name__} is not an encoder of blocks")
    copied.encoder.fewer = FewerTokens(layer, reduce, restore, constants)
    return copied


def tokens_of(spec: ModelSpec) -> Tokens:
    """The tokens of a network whose blocks take any number of them.

    Raises:
        UsageError: it has none.
    """
    tokens = spec.encoder.tokens
    if tokens is None or not spec.encoder.takes_any_tokens:
        raise UsageError(
            f"the encoder of {spec.name!r} ({spec.encoder.kind}) has no tokens that could be clustered or merged",
            hint="that is for plain, hybrid and DINOv2 transformers, such as base, hybrid and da2-small",
        )
    return tokens


def check_layer(spec: ModelSpec, layer: float) -> None:
    """Check that a network can work on fewer tokens behind the block ``layer``, counted from 0.

    Raises:
        UsageError: it cannot.
    """
    tokens_of(spec)
    last = max(tap for tap in spec.taps if isinstance(tap, int))
    if layer not in range(last):
        raise UsageError(
            f"fewer tokens behind block {layer:g}; expected 0 to {last - 1}",
            hint=f"the last block of {spec.name} is {last}: behind it, none is left to save time in",
        )


def check_clusters(spec: ModelSpec, size: Size | None, *, layer: float, height: float, width: float) -> None:
    """Check that a network can work on ``height`` x ``width`` clusters behind the block ``layer``, counted from 0.

    Args:
        spec: the network.
        size: an image size that must have as many tokens; None: it is not known.
        layer, height, width: whole numbers.

    Raises:
        UsageError: it cannot; or there would be more clusters than tokens.
    """
    check_layer(spec, layer)
    if not all(side in range(1, MAX_SIDE + 1) for side in (height, width)):
        raise UsageError(
            f"{height:g}x{width:g} clusters; expected whole numbers from 1 to {MAX_SIDE}",
            hint="for example --tokens 4:16x16",
        )
    if size is None:
        return
    patch = tokens_of(spec).patch
    rows, columns = size.height // patch, size.width // patch
    if height > rows or width > columns:
        raise UsageError(
            f"{height:g}x{width:g} clusters are more than the {rows}x{columns} tokens of an image of {size} pixels",
            hint="choose fewer clusters, or a larger size with --static",
        )
