"""Histograms of magnitudes, streamed: how the numbers of a tensor are spread, over any number of images in any order.

A bin is what the first 15 bits of an FP32 number say: its exponent and six bits of its mantissa, 64 bins an octave. So
bins need no range beforehand, one pass over the images is enough, and counts add up whatever the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_SHIFT = 17  # bits of an FP32 number that a bin does not look at
_SIGN = 0x7FFF_FFFF
BINS = (_SIGN >> _SHIFT) + 1
with np.errstate(invalid="ignore"):  # the last bins are those of infinity and NaN
    MIDDLES = ((np.arange(BINS, dtype=np.uint32) << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32).astype(np.float64)
"""The magnitude in the middle of each bin, (BINS,); those of infinities and NaN are not finite."""


class Histograms:
    """Counts of the magnitudes of each of ``tensors``."""

    def __init__(self, tensors: Sequence[str]) -> None:
        self._counts = {name: np.zeros(BINS, np.int64) for name in tensors}

    def add(self, samples: Mapping[str, np.ndarray]) -> None:
        """Count the numbers (FP32, any shape) of some tensors."""
        for name, values in samples.items():
            bins = (np.ascontiguousarray(values, np.float32).view(np.uint32) & _SIGN) >> _SHIFT
            self._counts[name] += np.bincount(bins.ravel(), minlength=BINS)

    def counts(self, name: str) -> Counts:
        """How many numbers of a tensor fell into each bin, (BINS,)."""
        return self._counts[name]
