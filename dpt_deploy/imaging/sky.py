"""Depth of the sky, filled from that of the ground as in Depth Anything 3; the C++ library gives the same bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.spec import SkyFill


def filled_sky(depth: NDArray[np.float32], sky: NDArray[np.float32], rule: SkyFill) -> NDArray[np.float32]:
    """``depth`` (h, w) with that of the farthest ground where ``sky`` (h, w) reaches the threshold of ``rule``.

    It is ``depth`` itself where there is next to no sky, or next to no ground.
    """
    is_sky = sky >= np.float32(rule.threshold)
    ground = depth[~is_sky]
    if min(ground.size, depth.size - ground.size) <= rule.pixels:
        return depth
    return np.where(is_sky, quantile(ground, rule.quantile), depth)


def quantile(values: NDArray[np.float32], share: float) -> np.float32:
    """The quantile of any number of ``values``: linear between neighbours, in float64."""
    position = share * (values.size - 1)
    low = math.floor(position)
    high = min(low + 1, values.size - 1)
    around = np.partition(values, (low, high))
    below, above = float(around[low]), float(around[high])
    return np.float32(below + (above - below) * (position - low))
