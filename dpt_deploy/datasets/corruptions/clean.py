"""The undamaged image that a corruption starts from, and the unit of its lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # RGB (H, W, 3) in 0..1
Rng = np.random.Generator

IMAGENET_SIDE = 224  # pixels; the common corruptions state their lengths for images of this size
SCENE_SIDE_3D = 512  # pixels; the same for those that need depth


@dataclass(frozen=True)
class CleanImage:
    """An RGB image (H, W, 3) in 0..1 and, if it is known, the distance (H, W) of each pixel in metres.

    Every distance is positive and finite. What is farther than anything measured, such as sky, has the largest one.
    """

    pixels: Pixels
    distance: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def scale(self, side: int = IMAGENET_SIDE) -> float:
        """Factor of a length that is stated for images of ``side`` pixels: the shorter side of this one over that."""
        return min(self.shape) / side

    def depth(self) -> NDArray[np.float32]:
        """The distance of each pixel; raises ``ValueError`` for an image without."""
        if self.distance is None:
            raise ValueError("this image has no depth")
        return self.distance


def as_pixels(values: NDArray[Any]) -> Pixels:
    """``values`` as float32, clipped to 0..1."""
    return np.asarray(np.clip(values, 0.0, 1.0), np.float32)
