"""Raw outputs of a network as maps of the image's size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec, RestoreRule
from dpt_deploy.core.task import CANONICAL_DEPTH, METRIC_DEPTH, Task
from dpt_deploy.imaging import resample
from dpt_deploy.imaging.points import PointOptions


class FocalLength(NamedTuple):
    """The focal length of a camera, in pixels of an image, along its width and its height."""

    x: float
    y: float


class CanonicalCamera(NamedTuple):
    """The camera of a network that returns canonical depth, and the factor of PNGs of its metres."""

    focal: float
    png_scale: float


@dataclass(frozen=True)
class Map:
    """One map of one image, at the image's own resolution.

    ``values`` (H, W) are float32 numbers, or uint16 labels: 1 is the first class, 0 the palette's background, which is
    never predicted. ``num_classes`` is 0 for numbers. ``png_scale`` is the factor of 16-bit metric PNGs, 0 where the
    numbers are not metres. ``camera`` belongs to canonical depth, which it turns into metres. The values of a map that
    was resized on a GPU may still lie there. ``points`` says how files of points are made of it; None
    where no camera is known. ``ends`` are the values that colours are stretched over; None for the range of the map.
    """

    task: Task
    values: Any
    num_classes: int = 0
    png_scale: float = 0.0
    camera: CanonicalCamera | None = None
    points: PointOptions | None = None
    ends: tuple[float, float] | None = None

    def in_metres(self, focal: FocalLength, network: Size) -> Map:
        """This map of canonical depth in metres: times the focal length of the network's input over the camera's.

        ``focal`` is that of the image, which entered the network at the size ``network``. The focal length of the
        network's input is the mean of both axes, as in Depth Anything 3 (its ``scale_depth`` by focal / 300).

        Raises:
            ValueError: the map has no canonical depth.
        """
        if self.camera is None:
            raise ValueError(f"a map of {self.task.name} is no canonical depth")
        height, width = self.values.shape
        scaled = (focal.x * network.width / width + focal.y * network.height / height) / 2
        metres = self.values * np.float32(scaled / self.camera.focal)
        return replace(self, task=METRIC_DEPTH, values=metres, png_scale=self.camera.png_scale, camera=None)


def map_of(task: Task, values: Any, model: ModelSpec) -> Map:
    """A map of ``values`` that have the image's size already."""
    png_scale = model.steps_per_metre if task.unit == "m" else 0.0
    canonical = task.quantity == CANONICAL_DEPTH.quantity
    camera = CanonicalCamera(model.canonical_focal, model.steps_per_metre) if canonical else None
    return Map(task, values, model.num_classes if task.of_classes else 0, png_scale, camera)


def to_map(task: Task, output: NDArray[Any], size: Size, model: ModelSpec, restore: RestoreRule = "bicubic") -> Map:
    """The map of an image of ``size`` from a raw output of batch 1; ``restore`` is the filter of the image rule."""
    return map_of(task, _resampled(task, output[0], size, restore), model)


def _resampled(task: Task, output: NDArray[Any], size: Size, restore: RestoreRule) -> NDArray[Any]:
    if task.resample == "argmax":
        return resample.labels_from_logits(output, size, rule=restore)
    if task.resample == "nearest":
        return resample.resize_labels(output.astype(np.uint16) + 1, size)
    return resample.restore(output, size, restore)


def map_type(task: Task) -> np.dtype[Any]:
    """The NumPy type of a map's values."""
    return np.dtype(np.uint16 if task.of_classes else np.float32)
