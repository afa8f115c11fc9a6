"""Depth maps as points in space: a pinhole camera, back-projection, edges and normals. NumPy only.

Coordinates are those of OpenCV and of ROS' optical frames: x to the right, y down, z forward along the optical axis.
A depth is a distance along z, not along the ray. Pixel (0, 0) has its centre at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, radians, tan
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size

_MAX_DEGREES = 180.0
_METRES, _INVERSE, _RELATIVE = "metres", "inverse depth", "relative depth"


class Intrinsics(NamedTuple):
    """A pinhole camera in pixels: focal lengths and principal point, where pixel (0, 0) has its centre at (0, 0)."""

    fx: float
    fy: float
    cx: float
    cy: float


class PhotoCamera(Protocol):
    """A camera whose intrinsics may depend on the size of the image."""

    def at(self, size: Size) -> Intrinsics:
        """The intrinsics for images of ``size``; raises :class:`UsageError` if it takes no such images."""


@dataclass(frozen=True)
class CentredCamera:
    """A camera whose principal point is the image's centre, by focal lengths in pixels."""

    fx: float
    fy: float

    def at(self, size: Size) -> Intrinsics:
        return Intrinsics(self.fx, self.fy, (size.width - 1) / 2, (size.height - 1) / 2)


@dataclass(frozen=True)
class ViewCamera:
    """A camera whose principal point is the image's centre, by its horizontal field of view in degrees.

    Raises:
        UsageError: the angle is not between 0 and 180 degrees.
    """

    degrees: float

    def __post_init__(self) -> None:
        if not 0 < self.degrees < _MAX_DEGREES:
            raise UsageError(
                f"the field of view is {self.degrees}; expected degrees between 0 and 180",
                hint="it is the horizontal angle: about 65 for the main camera of a phone",
            )

    def at(self, size: Size) -> Intrinsics:
        focal = size.width / (2 * tan(radians(self.degrees) / 2))
        return CentredCamera(focal, focal).at(size)


@dataclass(frozen=True)
class CalibratedCamera:
    """A camera by its intrinsics, for images of ``size`` only if that is known.

    Raises:
        UsageError: a focal length is not positive, or a number is not finite.
    """

    intrinsics: Intrinsics
    size: Size | None = None

    def __post_init__(self) -> None:
        if not all(map(isfinite, self.intrinsics)) or min(self.intrinsics[:2]) <= 0:
            raise UsageError(
                f"the intrinsics are {tuple(self.intrinsics)}; expected finite numbers and positive focal lengths",
                hint="expected fx fy cx cy in pixels",
            )

    def at(self, size: Size) -> Intrinsics:
        if self.size is not None and self.size != size:
            raise UsageError(
                f"the intrinsics are for images of {self.size}; this one has {size}",
                hint="scale fx and cx by the ratio of widths, fy and cy by that of heights",
            )
        return self.intrinsics


@dataclass(frozen=True)
class PointOptions:
    """The way from a depth map to points.

    Attributes:
        camera: the camera of the photograph.
        stride: every ``stride``-th row and column is taken.
        edge: a pixel is dropped where the depth to a neighbour jumps by more than this share of the nearer depth; 0
            keeps all.
        normals: True to compute a normal for each point.
        ratio: the assumed depth of the farthest pixel over that of the nearest, for maps that are no metres.

    Raises:
        UsageError: a number is out of its range.
    """

    camera: PhotoCamera
    stride: int = 1
    edge: float = 0.1
    normals: bool = False
    ratio: float = 10.0

    def __post_init__(self) -> None:
        if self.stride < 1 or not 0 <= self.edge < np.inf or not 1 < self.ratio < np.inf:
            raise UsageError(
                f"stride {self.stride}, edge {self.edge} or depth ratio {self.ratio} is out of range",
                hint="expected a stride of at least 1, an edge of at least 0, and a depth ratio above 1",
            )


@dataclass(frozen=True)
class PointCloud:
    """Points (N, 3) float32 in the camera's frame, colours (N, 3) uint8 in sRGB, unit normals (N, 3) or None.

    ``note`` says in words what the unit is; ``metric`` is True for metres.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    normals: NDArray[np.float32] | None
    metric: bool
    note: str


def back_project(depth: NDArray[Any], camera: Intrinsics, *, stride: int = 1) -> NDArray[np.float32]:
    """The point (x, y, z) of every ``stride``-th pixel of ``depth`` (H, W): an array (H', W', 3) in its unit.

    x = (u - cx) z / fx and y = (v - cy) z / fy. The points of pixels without a depth are not finite or zero.
    """
    height, width = depth.shape
    z = np.asarray(depth[::stride, ::stride], np.float32)
    across = ((np.arange(0, width, stride) - camera.cx) / camera.fx).astype(np.float32)
    down = ((np.arange(0, height, stride) - camera.cy) / camera.fy).astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0 x infinity, on the axis of the camera
        return np.stack((across * z, down[:, None] * z, z), axis=-1)


def has_depth(depth: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a depth (H, W) is finite and positive."""
    found: NDArray[np.bool_] = np.isfinite(depth) & (depth > 0)
    return found


def is_smooth(depth: NDArray[Any], edge: float) -> NDArray[np.bool_]:
    """False on both sides of every jump between neighbours of ``depth`` (H, W) above ``edge`` x the nearer depth."""
    smooth = np.ones(depth.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
            one, other = depth[first], depth[second]
            jump = np.abs(one - other) > edge * np.minimum(one, other)
            smooth[first] &= ~jump
            smooth[second] &= ~jump
    return smooth


def surface_normals(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) of a grid of points (H, W, 3), towards the camera; zero where a neighbour is missing.

    They are the cross products of differences between the neighbours in a row and in a column.
    """
    if min(points.shape[:2]) < 2:
        return np.zeros_like(points)
    with np.errstate(invalid="ignore", divide="ignore"):
        down, across = np.gradient(points, axis=(0, 1))
        normal = np.cross(down, across)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    facing = (normal * points).sum(axis=-1, keepdims=True) > 0
    normal = np.where(facing, -normal, normal)
    return np.where(np.isfinite(normal).all(axis=-1, keepdims=True), normal, 0).astype(np.float32)


def assumed_depth(values: NDArray[Any], quantity: str, ratio: float) -> NDArray[np.float32]:
    """A depth (H, W) for a map that has no scale: the nearest pixel gets depth 1, the farthest ``ratio``.

    Between them the inverse depth is linear in a map of inverse depth, and the depth in one of relative depth. So a map
    up to scale and shift is normalised by its own range, and the ratio is an assumption. A flat map lies at depth 1.

    Raises:
        ValueError: another quantity.
    """
    if quantity not in (_INVERSE, _RELATIVE):
        raise ValueError(f"no depth can be assumed for {quantity!r}")
    fine = np.isfinite(values)
    low, high = (float(values[fine].min()), float(values[fine].max())) if fine.any() else (0.0, 0.0)
    near = quantity == _INVERSE
    share = (values - low) / (high - low) if high > low else np.where(fine, float(near), np.nan)
    with np.errstate(invalid="ignore"):  # infinite pixels, which are left out below
        depth = 1 / (share + (1 - share) / ratio) if near else 1 + (ratio - 1) * share
    return np.asarray(np.where(fine, depth, np.nan), np.float32)


def point_cloud(values: NDArray[Any], image: NDArray[np.uint8], quantity: str, options: PointOptions) -> PointCloud:
    """The points of a map (H, W) of ``quantity`` with the colours of its image (H, W, 3).

    Raises:
        UsageError: no pixel is left, or the camera takes no images of this size.
    """
    metric = quantity == _METRES
    depth = np.asarray(values, np.float32) if metric else assumed_depth(values, quantity, options.ratio)
    kept = has_depth(depth)
    if options.edge:
        kept &= is_smooth(np.where(kept, depth, np.inf), options.edge)
    step = options.stride
    camera = options.camera.at(Size(*depth.shape))
    points = back_project(depth, camera, stride=step)
    kept = kept[::step, ::step]
    if not kept.any():
        raise UsageError(
            "no pixel has a depth that can become a point", hint="raise --edge, or set it to 0, and look at the map"
        )
    normals = None
    if options.normals:
        normals = surface_normals(back_project(depth, camera))[::step, ::step][kept]
    note = "units metres" if metric else _relative_note(quantity, options.ratio)
    return PointCloud(points[kept], image[::step, ::step][kept], normals, metric, note)


def _relative_note(quantity: str, ratio: float) -> str:
    return f"units relative (not metres): {quantity} scaled so that the nearest depth is 1 and the farthest {ratio:g}"
