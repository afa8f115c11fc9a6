"""Transformer blocks one after another, with positions added in front of them alone.

Such blocks take tokens in any number and order. So some of them may work on fewer tokens than there are patches
(:mod:`dpt_deploy.model.rewrites.tokens`).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dpt_deploy.core.encoders import Tap
from dpt_deploy.model.encoders.base import Encoder


class FewerTokens(nn.Module):
    """Fewer tokens behind the block ``layer``: an approximation of the network.

    ``reduce`` maps tokens (B, prefix + N, D), with N = height * width, ``height`` and ``width`` to (B, prefix + M, D)
    and a memory. ``restore`` maps (B, prefix + M, D) and the memory to (B, prefix + N, D). ``constants`` are the
    numbers of the two that no size of an image sets.
    """

    def __init__(self, layer: int, reduce: nn.Module, restore: nn.Module, constants: frozenset[int]) -> None:
        super().__init__()
        self.layer, self.reduce, self.restore, self.constants = layer, reduce, restore, constants


class BlockEncoder(Encoder):
    """An encoder of ``blocks``, some of them named by ``taps``. ``fewer`` is None in an exact network."""

    blocks: nn.Sequential
    taps: tuple[Tap, ...]

    def __init__(self) -> None:
        super().__init__()
        self.fewer: FewerTokens | None = None

    @property
    def comparable(self) -> tuple[str, ...]:
        return tuple(f"blocks.{index}" for index in range(len(self.blocks)))

    @property
    def fp32(self) -> Mapping[str, str]:
        return {"fewer.reduce": "squares of tokens overflow in 16 bits"} if self.fewer else {}

    @property
    def constants(self) -> frozenset[int]:
        return self.fewer.constants if self.fewer else frozenset()

    def tapped(self, tokens: Tensor, height: int, width: int) -> dict[Tap, Tensor]:
        """Pass tokens (B, prefix + height * width, D) through the blocks; return those behind each tapped block."""
        found: dict[Tap, Tensor] = {}
        memory: Tensor | None = None
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                found[index] = tokens if self.fewer is None or memory is None else self.fewer.restore(tokens, memory)
            if self.fewer is not None and index == self.fewer.layer:
                tokens, memory = self.fewer.reduce(tokens, height, width)
        return found
