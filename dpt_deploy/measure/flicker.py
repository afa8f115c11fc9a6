"""Flicker: how much the error of depth changes from one frame of a video to the next. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.measure.metrics import align_affine, span


class Flicker(NamedTuple):
    """Errors of a video's inverse depth over the range of its truth.

    ``change`` is the mean absolute change of the error of a pixel from frame to frame: the flicker. ``error`` is the
    mean absolute error itself.
    """

    change: float
    error: float


def flicker(maps: NDArray[np.floating], truth: NDArray[np.floating], *, each_frame: bool = False) -> Flicker:
    """The flicker of maps (T, H, W) against exact inverse depth (T, H, W) of a moving camera.

    The true change between frames is no flicker, since errors are compared. One scale and one shift align the whole
    video, so that a scale or shift that varies counts. With ``each_frame``, every frame is aligned on its own by the
    truth: about the flicker that remains if scale and shift are steadied perfectly.

    Raises:
        ValueError: fewer than two frames, shapes that differ, or a truth without range.
    """
    if maps.shape != truth.shape or maps.ndim != 3 or len(maps) < 2:
        raise ValueError(f"maps are {maps.shape} and their truth {truth.shape}; expected the same (T, H, W), T >= 2")
    width = span(truth)
    if width == 0:
        raise ValueError("the truth is flat; expected depth that varies")
    pairs = zip(maps, truth, strict=True)
    aligned = np.array([align_affine(*pair) for pair in pairs]) if each_frame else align_affine(maps, truth)
    errors = aligned - truth
    return Flicker(float(np.abs(np.diff(errors, axis=0)).mean()) / width, float(np.abs(errors).mean()) / width)
