"""Output formats: one record for each kind of file that ``run`` writes. Needs the extra ``images``.

A new format is one more record in :data:`FORMATS`. A task whose maps it fits then accepts it; a task that should write
it by default names it in ``core/task.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.task import Task
from dpt_deploy.imaging import encode, files
from dpt_deploy.imaging.files import Pixels
from dpt_deploy.imaging.maps import Map
from dpt_deploy.imaging.point_files import glb_bytes, ply_bytes
from dpt_deploy.imaging.points import PointCloud, point_cloud


@dataclass(frozen=True)
class OutputFormat:
    """One format.

    Attributes:
        name: its name on the command line.
        suffix: what follows the stem of the input in the name of the written file.
        of_classes: True if it holds labels, False if it holds numbers.
        write: writes a map of an image (H, W, 3) to a path.
        picture: the map of an image as RGB (H, W, 3), which makes frames of videos; None if it is no picture.
        unit: ``m`` if it holds metres only.
        of_points: True if it holds points in space, which needs :attr:`Map.points`.
    """

    name: str
    suffix: str
    of_classes: bool
    write: Callable[[Path, Map, Pixels], None]
    picture: Callable[[Map, Pixels], Pixels] | None = None
    unit: Literal["", "m"] = ""
    of_points: bool = False

    def fits(self, task: Task) -> bool:
        """True if it can hold a map of the task."""
        fits = self.of_classes == task.of_classes and self.unit in ("", task.unit)
        return fits and not (self.of_points and not task.quantity)


def _png(path: Path, found: Map, _image: Pixels) -> None:
    files.write_png16(path, encode.depth_to_uint16(found.values))


def _metric(path: Path, found: Map, _image: Pixels) -> None:
    files.write_png16(path, encode.metric_to_uint16(found.values, found.png_scale))


def _colours(found: Map, _image: Pixels) -> Pixels:
    return files.colorize(found.values, found.task.palette, found.ends)


def _side(found: Map, image: Pixels) -> Pixels:
    """The image and its map in colours, side by side (H, 2 W, 3)."""
    return np.hstack([image, _colours(found, image)])


def _points(encode: Callable[[PointCloud], bytes], path: Path, found: Map, image: Pixels) -> None:
    if found.points is None:
        raise UsageError("points need the camera of the image", hint="set Map.points, or give run --fov DEG")
    atomic_write_bytes(path, encode(point_cloud(found.values, image, found.task.quantity, found.points)))


def _overlay(path: Path, found: Map, image: Pixels) -> None:
    files.write_overlay(path, image, found.values, found.num_classes)


_TABLE = (
    OutputFormat("png", ".png", of_classes=False, write=_png),
    OutputFormat("pfm", ".pfm", of_classes=False, write=lambda path, found, _: files.write_pfm(path, found.values)),
    OutputFormat(
        "color",
        "-color.png",
        of_classes=False,
        write=lambda path, found, _: files.write_color(path, found.values, found.task.palette),
        picture=_colours,
    ),
    OutputFormat(
        "side",
        "-side.png",
        of_classes=False,
        write=lambda path, found, image: files.write_picture(path, _side(found, image)),
        picture=_side,
    ),
    OutputFormat("metric", "-metric.png", of_classes=False, write=_metric, unit="m"),
    OutputFormat(
        "ply",
        ".ply",
        of_classes=False,
        write=partial(_points, ply_bytes),
        of_points=True,
    ),
    OutputFormat(
        "glb",
        ".glb",
        of_classes=False,
        write=partial(_points, glb_bytes),
        of_points=True,
    ),
    OutputFormat(
        "labels",
        "-labels.png",
        of_classes=True,
        write=lambda path, found, _: files.write_labels(path, found.values, found.num_classes),
    ),
    OutputFormat(
        "overlay",
        "-overlay.png",
        of_classes=True,
        write=_overlay,
        picture=lambda found, image: files.overlay(image, found.values, found.num_classes),
    ),
)
FORMATS = {each.name: each for each in _TABLE}
POINT_FORMATS = frozenset(each.name for each in _TABLE if each.of_points)
POINT_SUFFIXES = frozenset(each.suffix for each in _TABLE if each.of_points)
