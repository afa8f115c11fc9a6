"""The interface between an encoder and the rest of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Image (B, 3, H, W) to the tapped features, finest first.

    A block tap yields tokens (B, prefix + H/P * W/P, D), a stage tap a feature map (B, C, H/s, W/s). A subclass is
    built from its specification and the taps: ``MyEncoder(spec, taps)``.
    """

    @property
    def comparable(self) -> tuple[str, ...]:
        """Submodules, in order of execution, whose output the rewrites before export leave as it is."""
        return ()

    @property
    def fp32(self) -> Mapping[str, str]:
        """Submodules whose own computation needs FP32 in a graph of 16 bits, each with the reason."""
        return {}

    @property
    def constants(self) -> frozenset[int]:
        """Numbers in the arithmetic of sizes that no size of an image sets, such as a fixed number of tokens."""
        return frozenset()

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]: ...
