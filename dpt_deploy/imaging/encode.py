"""Depth as 16-bit integers, as the original tools write it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.imaging.resample import FLOAT32_MAX

UINT16_MAX = 65535


_FLAT = float(np.finfo(np.float64).eps)  # the original's threshold for "there is no range to stretch"


def depth_to_uint16(depth: NDArray[Any]) -> NDArray[np.uint16]:
    """A relative map stretched over 0..65535 and truncated, the original's ``write_depth(bits=2)``.

    float32 gives the original's pixels; float16 is widened first, since ``65535 * (depth - min)`` overflows in it.
    A flat map gives zeros. The range is that of the finite values; NaN and -inf become 0, +inf becomes 65535.
    """
    finite = depth[np.isfinite(depth)]
    if not finite.size or float(finite.max()) - float(finite.min()) <= _FLAT:
        return np.zeros(depth.shape, np.uint16)
    low, high = float(finite.min()), float(finite.max())
    roomy = (high - low) * UINT16_MAX < FLOAT32_MAX
    values: NDArray[Any] = depth.astype(np.float32 if roomy and depth.dtype != np.float64 else np.float64)
    return _saturated(UINT16_MAX * (values - low) / (high - low))


def metric_to_uint16(depth_m: NDArray[Any], png_scale: float) -> NDArray[np.uint16]:
    """Metres times ``png_scale`` (KITTI 256, NYU 1000), truncated.

    Values outside 0..65535 saturate, where the original wraps around; NaN becomes 0.
    """
    return _saturated(depth_m.astype(np.float32) * np.float32(png_scale))


def _saturated(values: NDArray[Any]) -> NDArray[np.uint16]:
    bounded: NDArray[Any] = np.nan_to_num(values, nan=0.0, posinf=UINT16_MAX, neginf=0.0).clip(0, UINT16_MAX)
    return bounded.astype(np.uint16)
