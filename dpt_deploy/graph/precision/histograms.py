"""Streaming histograms of magnitudes, over any number of images in any order.

The bin of an FP32 number is given by its exponent and the first six bits of its mantissa: 64 bins per octave. Such bins
need no range beforehand, one pass over the images is enough, and the order of the images does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_SHIFT = 17  # low bits of an FP32 number that do not choose its bin
_SIGN = 0x7FFF_FFFF
BINS = (_SIGN >> _SHIFT) + 1
with np.errstate(invalid="ignore"):  # the last bins hold infinity and NaN
    MIDDLES = ((np.arange(BINS, dtype=np.uint32) << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32).astype(np.float64)
"""Magnitude in the middle of each bin, (BINS,); infinity and NaN have their own bins, which are not finite."""


class Histograms:
    """Counts of the magnitudes of each of ``tensors``."""

    def __init__(self, tensors: Sequence[str]) -> None:
        self.tensors = tuple(tensors)
        self._counts = {name: np.zeros(BINS, np.int64) for name in tensors}

    def add(self, samples: Mapping[str, np.ndarray]) -> None:
        """Count the numbers (FP32, any shape) of some tensors."""
        for name, values in samples.items():
            bins = (np.ascontiguousarray(values, np.float32).view(np.uint32) & _SIGN) >> _SHIFT
            self._counts[name] += np.bincount(bins.ravel(), minlength=BINS)

    def counts(self, name: str) -> Counts:
        """Return the count of each bin of a tensor, (BINS,)."""
        return self._counts[name]
