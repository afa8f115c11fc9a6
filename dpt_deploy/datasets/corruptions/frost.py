"""Frost without foreign photographs: ferns of ice, drawn from random numbers. Needs OpenCV.

Hendrycks & Dietterich, "Benchmarking neural network robustness" (2019), add a part of a photograph of frost to the
image. Here a pane is drawn instead: branches that grow from the edges and from a few places between, with twigs at
60 degrees as in a crystal of ice, over a haze of fractal noise. The shares of image and frost are those of the paper.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.corruptions import filters
from dpt_deploy.datasets.corruptions.clean import CleanImage, Pixels, Rng, as_pixels

with extra("images", purpose="corrupting images"):
    import cv2

_SHARES = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # of the image, and of the frost
_BRANCHES = 64
_LENGTH = (35.0, 120.0)  # pixels of 224
_SPACING = (5.0, 3.5)  # pixels of 224 between twigs of a branch, and between twigs of a twig
_TWIG = math.pi / 3  # angle between a branch and its twigs: ice is hexagonal
_SHARE_OF_LENGTH = (0.42, 0.35)  # of a twig at the root of its branch; it falls to nothing at the tip
_LEVELS = (255, 190, 120)  # brightness of branches, twigs, and twigs of twigs
_HAZE_DECAY, _HAZE, _ICE, _GLOW = 1.7, 0.45, 0.6, 0.25
_TINT = (0.86, 0.94, 1.0)  # ice is a little blue
_SHIFT = 4  # fractional bits of a coordinate for OpenCV

Segments = NDArray[np.float64]  # (N, 4): x, y of the root, angle in radians, length


def frost(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Add a frozen pane to the faded image."""
    kept, added = _SHARES[severity - 1]
    return kept * clean.pixels + added * pane(clean.shape, clean.scale(), rng)


def pane(shape: tuple[int, int], scale: float, rng: Rng) -> Pixels:
    """Draw frost (H, W, 3) in 0..1; ``scale`` is the size of a pixel of 224 in pixels of the image."""
    haze = filters.fractal(shape, _HAZE_DECAY, rng)
    ice = _drawn(shape, branches(shape, scale, rng), scale)
    glow = filters.gaussian(ice, 2.5 * scale)
    density = 0.2 + 0.8 * np.clip(2 * haze - 0.3, 0, 1)
    grey = _HAZE * haze**2 + density * (_ICE * ice + _GLOW * glow)
    return as_pixels(grey[..., None] * np.array(_TINT, np.float32))


def branches(shape: tuple[int, int], scale: float, rng: Rng) -> list[Segments]:
    """Return the branches, their twigs, and the twigs of those."""
    height, width = shape
    place, side = rng.random((_BRANCHES, 2)), rng.integers(0, 6, _BRANCHES)
    for edge in range(4):  # two thirds grow from an edge: left, right, top, bottom
        place[side == edge, edge // 2] = edge % 2
    angle, length = rng.uniform(-math.pi, math.pi, _BRANCHES), rng.uniform(*_LENGTH, _BRANCHES) * scale
    found = [np.column_stack([place[:, 0] * (width - 1), place[:, 1] * (height - 1), angle, length])]
    for spacing, share in zip(_SPACING, _SHARE_OF_LENGTH, strict=True):
        found.append(_twigs(found[-1], spacing * scale, share, scale, rng))
    return found


def _twigs(parents: Segments, spacing: float, share: float, scale: float, rng: Rng) -> Segments:
    """Twigs on both sides of every parent, shorter towards its tip; those below a pixel of 224 are left out."""
    counts = np.maximum(parents[:, 3] / spacing, 1).astype(int)
    owner = np.repeat(parents, counts, axis=0)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    length = owner[:, 3] * share * (1 - place) * rng.uniform(0.6, 1.2, len(place))
    x = owner[:, 0] + np.cos(owner[:, 2]) * place * owner[:, 3]
    y = owner[:, 1] + np.sin(owner[:, 2]) * place * owner[:, 3]
    both = [np.column_stack([x, y, owner[:, 2] + side * _TWIG, length]) for side in (-1, 1)]
    found = np.concatenate(both)
    return found[found[:, 3] > scale]


def _drawn(shape: tuple[int, int], generations: list[Segments], scale: float) -> NDArray[np.float32]:
    """Draw segments as smooth lines (H, W) in 0..1, the finest first."""
    canvas = np.zeros(shape, np.uint8)
    thickness = max(1, round(scale))
    for level, segments in reversed(list(zip(_LEVELS, generations, strict=True))):
        ends = segments[:, :2] + segments[:, 3:] * np.column_stack([np.cos(segments[:, 2]), np.sin(segments[:, 2])])
        lines = np.rint(np.stack([segments[:, :2], ends], axis=1) * 2**_SHIFT).astype(np.int32)
        cv2.polylines(
            canvas, list(lines), isClosed=False, color=level, thickness=thickness, lineType=cv2.LINE_AA, shift=_SHIFT
        )
    return canvas.astype(np.float32) / np.float32(255)
