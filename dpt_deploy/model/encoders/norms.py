"""Batch norms in front of or behind linear layers, in the form in which the rewrites before export find them."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

PreNorms = tuple[tuple[str, tuple[str, ...]], ...]  # a batch norm, and the layers that alone read its output


@runtime_checkable
class HasPreNorms(Protocol):
    """A module with batch norms in front of linear layers or 1x1 convolutions without padding.

    ``pre_norms`` names them and those layers, the one nearest to its layers first. Between the two may stand what
    computes every channel alike and sums to one, such as an average.
    """

    pre_norms: ClassVar[PreNorms]


class LinearNorm(nn.Module):
    """A linear layer without bias, and a batch norm over all tokens."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out, bias=False)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, out)."""
        out: Tensor = self.norm(self.linear(tokens).transpose(1, 2)).transpose(1, 2)
        return out
