"""Corruptions that move pixels, and the same movement of the ground truth.

Each function returns the *sources*: the row and column of the undamaged image that are seen at each pixel. The image is
read there with bilinear interpolation, mirrored at its border. The truth is read at the nearest pixel, since a mean of
two depths, or of two labels, is that of neither. What was outside the image has no truth.

The elastic transform is that of Hendrycks & Dietterich (2019), after Simard et al. (2003). The views are named by
Kar et al. (CVPR 2022). Turning about the optical axis and enlarging leave depth along that axis as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.base import OrdinalPair, Sample
from dpt_deploy.datasets.corruptions import filters
from dpt_deploy.datasets.corruptions.clean import CleanImage, Pixels, Rng

with extra("images", purpose="corrupting images"):
    import cv2

Field = NDArray[np.float32]  # (2, H, W): row and column of the source of each pixel
Sources = Callable[[CleanImage, Rng, int], Field]

_ELASTIC_SIDE = 244  # the original states its shares for this number, whatever the image
_STRENGTH = (0.02, 0.035, 0.05, 0.07, 0.12)  # of white noise, before it is smoothed
_SMOOTH = 0.01
_AFFINE = (0.01, 0.015, 0.02, 0.02, 0.02)  # largest shift of the three points that fix the affine map
_ROLL = (6, 12, 18, 24, 30)  # degrees
_VIEW = (0.9, 0.8, 0.7, 0.6, 0.5)  # tangent of half the field of view over that of the undamaged image
_FARTHEST = 1.5  # pixels between a marked point and the nearest source, beyond which the point is not seen


def elastic_transform(clean: CleanImage, rng: Rng, severity: int) -> Field:
    """Shear the image a little, and shift neighbourhoods by smooth noise.

    The last three severities are the original's. Its first two are not weaker forms of them but large shears, so these
    continue the row downwards instead.
    """
    scale = clean.scale()
    smooth = _SMOOTH * _ELASTIC_SIDE * scale
    strength = _STRENGTH[severity - 1] * _ELASTIC_SIDE * scale**2  # a mean over more pixels has less of it
    corners = np.array([[1, 1], [1, -1], [-1, -1]]) * (min(clean.shape) / 3)
    moved = corners + rng.uniform(-1, 1, (3, 2)) * _AFFINE[severity - 1] * _ELASTIC_SIDE * scale
    noise = rng.uniform(-1, 1, (2, *clean.shape)).astype(np.float32)
    shift = np.stack([strength * filters.gaussian(each, smooth) for each in noise])
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), corners)  # (3, 2): a point of the result to its source
    return _turned(clean.shape, back[:2].T, back[2], shift)


def camera_roll(clean: CleanImage, rng: Rng, severity: int) -> Field:
    """Turn the camera about its optical axis, to either side."""
    angle = math.radians(_ROLL[severity - 1]) * (1 if rng.random() < 0.5 else -1)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return _turned(clean.shape, turn, np.zeros(2))


def field_of_view(clean: CleanImage, _rng: Rng, severity: int) -> Field:
    """Narrow the field of view: a longer lens at the same place."""
    return _turned(clean.shape, np.eye(2) * _VIEW[severity - 1], np.zeros(2))


def shown(sources: Sources) -> Callable[[CleanImage, Rng, int], Any]:
    """Return the corruption that moves the pixels of the image as ``sources``."""
    return lambda clean, rng, severity: moved_image(clean.pixels, sources(clean, rng, severity))


def moved_image(pixels: Pixels, field: Field) -> Pixels:
    """Read an image (H, W, 3) at the sources."""
    rows, columns = field
    found = cv2.remap(pixels, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found, np.float32)


def moved_truth(sample: Sample, field: Field) -> Sample:
    """Return ``sample`` with its validity and its depth, labels or pairs moved as the image is; its image stays."""
    height, width = sample.valid.shape
    rows, columns = np.rint(field).astype(int)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    return replace(
        sample,
        valid=sample.valid[rows, columns] & inside,
        depth=None if sample.depth is None else np.where(inside, sample.depth[rows, columns], np.float32(0)),
        labels=None if sample.labels is None else np.where(inside, sample.labels[rows, columns], np.uint8(0)),
        pairs=None if sample.pairs is None else _moved_pairs(sample.pairs, field),
    )


def _moved_pairs(pairs: tuple[OrdinalPair, ...], field: Field) -> tuple[OrdinalPair, ...]:
    """Pairs at the pixels that show their points; a pair is dropped if one of its points is not seen."""
    found = [(_seen_at(each.far, field), _seen_at(each.near, field)) for each in pairs]
    return tuple(OrdinalPair(far, near) for far, near in found if far and near)


def _seen_at(point: tuple[int, int], field: Field) -> tuple[int, int] | None:
    away = np.hypot(field[0] - point[0], field[1] - point[1])
    row, column = np.unravel_index(int(away.argmin()), away.shape)
    return (int(row), int(column)) if away[row, column] <= _FARTHEST else None


def _turned(shape: tuple[int, int], matrix: NDArray[Any], offset: NDArray[Any], shift: Field | None = None) -> Field:
    """Sources of a linear map about the centre; matrix and offset are for (row, column), ``shift`` is added before."""
    middle = (np.array(shape, np.float64).reshape(2, 1, 1) - 1) / 2
    places = np.mgrid[: shape[0], : shape[1]] - middle + (0 if shift is None else shift)
    found = np.einsum("ij,jhw->ihw", matrix, places) + offset.reshape(2, 1, 1) + middle
    return np.asarray(found, np.float32)
