"""Ceiling of a machine: the rate of a large matrix product, to which printed shares refer.

No library is the fastest everywhere. Several multiply the same matrices, each alone before anything else is timed and
again between the rounds, and the fastest is the ceiling. Threads of other sessions, which spin after their runs, slow a
product down between the rounds.
Matrices are larger on a GPU, where the launch of a small product would dominate its time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dpt_deploy.measure.timing import TimedCall, Timing

SIDE = 2048  # large enough to be bound by arithmetic, small enough to be repeated every round
DEVICE_SIDE = 8192


def operations(side: int) -> int:
    """Number of operations of a product of two square matrices."""
    return 2 * side**3


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Make two float32 matrices (``SIDE``, ``SIDE``)."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    return left, right


def numpy_product() -> TimedCall:
    """The product computed by NumPy."""
    left, right = matrices()
    return TimedCall(lambda: left @ right, lambda: None)


def best(products: Mapping[str, Timing]) -> Timing:
    """The product with the smallest median."""
    return min(products.values(), key=lambda timing: timing.median)


def share(timing: Timing, done: int, ceiling: Timing, side: int) -> float | None:
    """Share of the ceiling that ``done`` operations reached in ``timing``: the ratio of the median rates.

    ``ceiling`` is the product of matrices of this ``side``. None if the rate is above it: then it is no ceiling,
    because the machine was slower while the products ran.
    """
    found = float(done / timing.median / (operations(side) / ceiling.median))
    return found if found <= 1 else None
