"""Token merging: later blocks work on fewer tokens, because pairs of similar ones became one.

An approximation without training and without weights of its own, as :mod:`dpt_deploy.model.rewrites.tokens` is.

Source: Bolya et al. 2023, "Token Merging: Your ViT But Faster", section 3, bipartite soft matching; and its appendix on
dense prediction, where a token takes the value of the one that it was merged into. One merge instead of one a block.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.rewrites.tokens import NearestCentre, check_layer, taken, tokens_of, with_fewer

MOST = 50  # percent: a token is merged into one of the other half

_LEAST = 1e-12  # length that a token is divided by


class MergeTokens(nn.Module):
    """``percent`` of the tokens are merged into others, behind the ``prefix`` leading tokens, which stay as they are.

    In the order of rows, tokens 1, 3, 5, … may be merged into the most similar of tokens 0, 2, 4, … by the cosine
    between them. Those that are most similar to their partner are merged; of equal ones, the first. A token becomes the
    mean of itself and all that were merged into it. Everything is computed in FP32.

    The order of the tokens that are left does not matter to the blocks: first come those at even places, then the
    others, the least similar first.
    """

    def __init__(self, percent: int, prefix: int) -> None:
        super().__init__()
        self.share, self.prefix = Fraction(percent, 100), prefix

    def forward(self, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(B, prefix + N, D), with N = ``height`` * ``width``, to (B, prefix + N - R, D) and the tokens' memory.

        R is ``percent`` of N, rounded down. The memory is the place of each token among those that are left, (B, N)
        int64.
        """
        count = height * width
        merges = count * self.share.numerator // self.share.denominator
        grid = tokens[:, self.prefix :].float()
        even, odd = grid[:, 0::2], grid[:, 1::2]  # (B, E, D), (B, O, D), with E = O or E = O + 1
        close = _directions(odd) @ _directions(even).transpose(1, 2)
        partner = close.argmax(dim=2)
        rank = _ranks(close.amax(dim=2))  # (B, O)
        merged = rank < merges
        evens = torch.arange(even.shape[1], device=grid.device)
        joins = ((partner[:, None] == evens[:, None]) & merged[:, None]).to(grid.dtype)  # (B, E, O)
        means = (even + joins @ odd) / (1.0 + joins.sum(dim=2, keepdim=True))
        first = evens.expand(grid.shape[0], -1)
        places = torch.cat((first, torch.where(merged, partner, count - 1 - rank)), dim=1)
        order = torch.cat((first, count - 1 - rank), dim=1)  # all numbers from 0 to N - 1
        kept = (-order).to(grid.dtype).topk(count - merges, dim=1).indices  # numbers 0, 1, …; no two are equal
        left = taken(torch.cat((means, odd), dim=1), kept)
        index = torch.arange(count, device=grid.device)
        memory = places.index_select(1, index // 2 + index % 2 * even.shape[1])
        return torch.cat((tokens[:, : self.prefix], left.to(tokens.dtype)), dim=1), memory


def _directions(tokens: Tensor) -> Tensor:
    """Tokens (B, N, D), divided by their lengths."""
    return tokens / tokens.square().sum(dim=2, keepdim=True).sqrt().clamp(min=_LEAST)


def _ranks(values: Tensor) -> Tensor:
    """Place of each of ``values`` (B, N) from the largest to the smallest, counted from 0; of equal ones, in order.

    Counted by comparisons, because sorting leaves the order of equal values to the runtime.
    """
    index = torch.arange(values.shape[1], device=values.device)
    larger = (values[:, None, :] - values[:, :, None]).sign().to(torch.int64)  # 1, 0 or -1; a graph of 16 bits types it
    earlier = (index[None, :] < index[:, None]).to(torch.int64)
    return (larger + earlier > 0).to(torch.int64).sum(dim=2)


def merge_tokens(model: DPT, layer: float, percent: float) -> DPT:
    """A copy of ``model`` with ``percent`` of the tokens merged behind the block ``layer``, restored at the taps."""
    check_merge(model.spec, None, layer=layer, percent=percent)
    prefix = tokens_of(model.spec).prefix
    reduce = MergeTokens(int(percent), prefix)
    constants = frozenset({reduce.share.numerator, reduce.share.denominator})
    return with_fewer(model, int(layer), reduce, NearestCentre(prefix), constants)


def check_merge(spec: ModelSpec, _size: Size | None, *, layer: float, percent: float) -> None:
    """Check that a network can merge ``percent`` of its tokens behind the block ``layer``, counted from 0.

    Raises:
        UsageError: it cannot, or the numbers are out of range.
    """
    check_layer(spec, layer)
    if percent not in range(1, MOST + 1):
        raise UsageError(
            f"{percent:g} percent of the tokens to merge; expected a whole number from 1 to {MOST}",
            hint="a token is merged into one of the other half; for example --tokens 4:30%",
        )
