"""Estimates with bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]  # first axis: the images themselves, then every resample

RESAMPLES = 4000
_LEAST = 4  # images of a kind; fewer do not show how much its images differ


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Draws) -> Self:
        """Make an estimate of the value itself (first draw) and its resamples (the rest)."""
        low, high = np.percentile(draws[1:], (2.5, 97.5))
        return cls(float(draws[0]), float(low), float(high))

    def meets(self, other: Estimate) -> bool:
        """True if the intervals overlap."""
        return self.low <= other.high and other.low <= self.high


def mean_of(values: NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Mean of one number per image, with its interval."""
    return Estimate.of(image_weights(len(values), seed, resamples) @ values)


def image_weights(images: int | Sequence[str], seed: int, resamples: int) -> Draws:
    """Weight of each image in each draw, adding up to 1: (1 + resamples, images).

    ``images`` is their number, or the kind of each. A resample draws ``n - 1`` of the ``n`` images of each kind and
    weights them by ``n / (n - 1)``. Drawing ``n`` would underestimate the variance of the mean by the factor
    ``(n - 1) / n`` (Rao & Wu, "Resampling inference with complex survey data", JASA 1988).
    """
    kinds = [""] * images if isinstance(images, int) else list(images)
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, len(kinds)))
    for members in strata(kinds):
        n = len(members)
        drawn = rng.multinomial(n - 1, np.full(n, 1 / n), resamples)
        counts[1:, members] = drawn * (n / (n - 1))
    return counts / len(kinds)


def strata(kinds: Sequence[str]) -> list[list[int]]:
    """Group the images by kind; kinds with too few images are merged with each other or the next larger one."""
    members: dict[str, list[int]] = {}
    for index, kind in enumerate(kinds):
        members.setdefault(kind, []).append(index)
    found = sorted(members.values(), key=len)
    while len(found) > 1 and len(found[0]) < _LEAST:
        found = sorted([found[0] + found[1], *found[2:]], key=len)
    return found
