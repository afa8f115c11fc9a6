"""What the machine can do at best: a large float32 matrix product, the yardstick for every share printed."""

from __future__ import annotations

import time

import numpy as np

_SIDE = 1536  # large enough to be bound by arithmetic, small enough for a cache-blocked product to take milliseconds
_ROUNDS = 8


def matrix_ceiling(*, side: int = _SIDE, rounds: int = _ROUNDS) -> float:
    """Best of ``rounds`` float32 products of two ``side`` x ``side`` matrices, in operations per second."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best
