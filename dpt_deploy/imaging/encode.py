"""Depth as 16-bit integers, as the original tools write it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.imaging.resample import FLOAT32_MAX

UINT16_MAX = 65535
_BLOCK = 1 << 16  # values at a time: they stay in the cache of one core
_FLAT = float(np.finfo(np.float64).eps)  # the original's threshold for "there is no range to stretch"


def depth_to_uint16(depth: NDArray[Any], ends: tuple[float, float] | None = None) -> NDArray[np.uint16]:
    """A relative map stretched over 0..65535 and truncated, the original's ``write_depth(bits=2)``.

    ``ends`` are the values that become 0 and 65535, instead of the map's own; values beyond them saturate.

    float32 gives the original's pixels; float16 is widened first, since ``65535 * (depth - min)`` overflows in it.
    A flat map gives zeros. The range is that of the finite values; NaN and -inf become 0, +inf becomes 65535.
    """
    low, high = _finite_range(depth) if ends is None else ends
    if not high - low > _FLAT:
        return np.zeros(depth.shape, np.uint16)
    roomy = (high - low) * UINT16_MAX < FLOAT32_MAX
    dtype: Any = np.float32 if roomy and depth.dtype != np.float64 else np.float64
    out = np.empty(depth.shape, np.uint16)
    for block in _blocks(depth):
        values = depth[block].astype(dtype)
        values -= low
        values *= UINT16_MAX
        values /= high - low
        out[block] = _saturated(values)
    return out


def metric_to_uint16(depth_m: NDArray[Any], png_scale: float) -> NDArray[np.uint16]:
    """Metres times ``png_scale`` (KITTI 256, NYU 1000), truncated.

    Values outside 0..65535 saturate, where the original wraps around; NaN becomes 0.
    """
    out = np.empty(depth_m.shape, np.uint16)
    for block in _blocks(depth_m):
        out[block] = _saturated(depth_m[block].astype(np.float32) * np.float32(png_scale))
    return out


def _finite_range(depth: NDArray[Any]) -> tuple[float, float]:
    """The smallest and the largest finite value; both NaN if there is none."""
    ends = [_ends(depth[block]) for block in _blocks(depth)]
    known = [each for each in ends if each is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else (np.nan, np.nan)


def _ends(values: NDArray[Any]) -> tuple[float, float] | None:
    low, high = float(values.min()), float(values.max())  # NaN if one is
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _blocks(values: NDArray[Any]) -> list[slice]:
    """Parts of the first axis, so that temporary arrays stay small next to a large map."""
    step = max(1, _BLOCK * len(values) // max(1, values.size))
    return [slice(start, start + step) for start in range(0, len(values), step)]


def _saturated(values: NDArray[Any]) -> NDArray[np.uint16]:
    """``values`` truncated to 0..65535, NaN to 0; they are overwritten."""
    np.fmax(values, 0, out=values)
    np.minimum(values, UINT16_MAX, out=values)
    return values.astype(np.uint16)
