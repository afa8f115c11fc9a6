"""What the machine can do at best: a large float32 matrix product, the yardstick for every share printed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SIDE = 1536  # large enough to be bound by arithmetic, small enough for a cache-blocked product to take milliseconds


OPERATIONS = 2 * _SIDE**3


def matrix_product() -> Callable[[], object]:
    """One float32 product of two ``_SIDE`` x ``_SIDE`` matrices, :data:`OPERATIONS` operations, to be timed in turn."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    return lambda: left @ right
