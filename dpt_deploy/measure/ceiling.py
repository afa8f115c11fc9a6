"""What the machine can do at best: a large matrix product, the yardstick for every share printed.

No library is the fastest everywhere, so several multiply the same matrices in turn and the best of them is the ceiling.
On a GPU the matrices are larger, or launching the product would be what is timed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dpt_deploy.measure.timing import Contender, Timing

SIDE = 2048  # large enough to be bound by arithmetic, small enough to be repeated every round
DEVICE_SIDE = 8192


def operations(side: int) -> int:
    """Of a product of two square matrices."""
    return 2 * side**3


def matrices() -> tuple[np.ndarray, np.ndarray]:
    """Two float32 matrices (``SIDE``, ``SIDE``)."""
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    return left, right


def numpy_product() -> Contender:
    """The product as NumPy computes it."""
    left, right = matrices()
    return Contender(lambda: left @ right, lambda: None)


def best(products: Mapping[str, Timing]) -> Timing:
    """The product with the smallest median."""
    return min(products.values(), key=lambda timing: timing.median)


def share(timing: Timing, done: int, ceiling: Timing, side: int) -> float:
    """Share of the ceiling that ``done`` operations in ``timing`` reached: the ratio of the median rates.

    ``ceiling`` is the product of matrices of this ``side``, of the same run: where the machine slows down for a while,
    both slow down.
    """
    return float(done / timing.median / (operations(side) / ceiling.median))
