"""The largest change of a value that an attack may make, in levels of 255 (NumPy only)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError

LARGEST = 64  # levels; beyond it the image is visibly another one
_SLACK = 1e-3  # levels: what rounding of 0..1 may take from a whole number of levels


def parse_strengths(text: str) -> tuple[float, ...]:
    """Parse ``2/255,8/255`` or ``0.0314`` to levels of 255, in order, each once.

    Raises:
        UsageError: a part is no number, or is outside 0 to 64/255, or changes no byte without being 0.
    """
    found = []
    for part in (each.strip() for each in text.split(",") if each.strip()):
        top, slash, bottom = part.partition("/")
        try:
            share = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            share = math.nan
        found.append(_checked(share * 255, part))
    if not found:
        raise UsageError("--eps is empty; expected one or more strengths", hint="for example --eps 2/255,8/255")
    return tuple(sorted(set(found)))


def check_strengths(levels: Sequence[float]) -> tuple[float, ...]:
    """Return ``levels`` of 255 in order; raises :class:`UsageError` as :func:`parse_strengths` does."""
    return tuple(sorted({_checked(each, f"{each:g}/255") for each in levels}))


def _checked(levels: float, written: str) -> float:
    nearest = round(levels) if math.isfinite(levels) else 0
    levels = float(nearest) if abs(levels - nearest) < _SLACK else levels
    if not 0 <= levels <= LARGEST or 0 < levels < 1:
        raise UsageError(
            f"strength {written!r} is {levels:g} levels; expected 0, or 1 to {LARGEST} levels of 255",
            hint="a smaller change is lost when the image is stored in bytes: for example --eps 2/255,8/255",
        )
    return levels


def to_bytes(attacked: NDArray[np.floating[Any]], image: NDArray[np.uint8], levels: float) -> NDArray[np.uint8]:
    """``attacked`` in 0..1 as bytes; no byte differs from ``image`` by more than ``levels``.

    Values are rounded towards the image. Rounding to the nearest byte could leave the bound by half a level.
    """
    change = np.asarray(attacked, np.float64) * 255 - image
    whole = np.trunc(change + np.sign(change) * _SLACK)
    bound = math.floor(levels + _SLACK)
    return np.asarray(np.clip(image + np.clip(whole, -bound, bound), 0, 255), np.uint8)
