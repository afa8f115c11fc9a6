"""Ray casting: exact distances to boxes, ellipsoids, cylinders and planes (torch, any device).

A ray is ``origin + t * direction``. Directions are scaled such that their component along the camera's axis is 1, so
``t`` *is* the depth that a depth map holds: metres along the optical axis, not along the ray. Coordinates come first in
every array, (3, N): sums over them then run along memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

UPRIGHT = np.eye(3)  # the rotation of an upright solid
_NEAR = 1e-3  # metres; nearer hits belong to the surface that the ray starts from
_TINY = 1e-9


class Solid(Protocol):
    """A body in world coordinates (metres, y up)."""

    def distance(self, origin: Tensor, direction: Tensor) -> Tensor:
        """Return ``t`` (N,) of the first hit on rays (3, N) from ``origin`` (3, N) or (3, 1); infinite for none."""

    def surface(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return outward unit normals (3, N) and texture coordinates (2, N) in metres of surface points (3, N)."""


@dataclass(frozen=True)
class ObjectFrame:
    """Pose of a solid: its ``centre`` and its ``rotation`` (columns are its axes in the world)."""

    centre: np.ndarray
    rotation: np.ndarray

    def inward(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Transform world rays to the coordinates of the solid."""
        return self.local(origin), _like(self.rotation.T, origin) @ direction

    def local(self, point: Tensor) -> Tensor:
        """Transform a world point to the coordinates of the solid."""
        return _like(self.rotation.T, point) @ (point - _column(self.centre, point))

    def outward(self, vector: Tensor) -> Tensor:
        """Transform a direction of the solid to world coordinates."""
        return _like(self.rotation, vector) @ vector


@dataclass(frozen=True)
class Box:
    """A cuboid; ``half`` holds half its edge lengths. Seen from inside (``room``) it forms floor, walls and ceiling."""

    frame: ObjectFrame
    half: np.ndarray
    room: bool = False

    def distance(self, origin: Tensor, direction: Tensor) -> Tensor:
        origin, direction = self.frame.inward(origin, direction)
        inverse = 1.0 / _away_from_zero(direction)
        half = _column(self.half, origin)
        first, second = (-half - origin) * inverse, (half - origin) * inverse
        enter = torch.minimum(first, second).amax(dim=0)
        leave = torch.maximum(first, second).amin(dim=0)
        return _visible(leave if self.room else enter, hit=(leave >= enter) & (leave > _NEAR))

    def surface(self, point: Tensor) -> tuple[Tensor, Tensor]:
        local = self.frame.local(point)
        axis = (local.abs() - _column(self.half, point)).argmax(dim=0, keepdim=True)
        sign = torch.sign(local.gather(0, axis))
        normal = torch.zeros_like(local).scatter_(0, axis, -sign if self.room else sign)
        others = torch.tensor([[2, 0, 0], [1, 2, 1]], device=point.device)[:, axis[0]]
        # Each face uses its own part of the texture, so opposite walls look different.
        return self.frame.outward(normal), local.gather(0, others) + 3.7 * axis + 1.3 * sign


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; ``radii`` are its half axes."""

    frame: ObjectFrame
    radii: np.ndarray

    def distance(self, origin: Tensor, direction: Tensor) -> Tensor:
        origin, direction = self.frame.inward(origin, direction)
        radii = _column(self.radii, origin)
        origin, direction = origin / radii, direction / radii
        a = (direction * direction).sum(dim=0)
        b = (origin * direction).sum(dim=0)
        c = (origin * origin).sum(dim=0) - 1.0
        root = b * b - a * c
        return _visible((-b - root.clamp_min(0).sqrt()) / a, hit=root > 0)

    def surface(self, point: Tensor) -> tuple[Tensor, Tensor]:
        local = self.frame.local(point)
        normal = torch.nn.functional.normalize(local / _column(self.radii, point) ** 2, dim=0)
        uv = torch.stack((torch.atan2(local[2], local[0]) * float(self.radii[0]), local[1]))
        return self.frame.outward(normal), uv


@dataclass(frozen=True)
class Cylinder:
    """A closed cylinder along its own y axis."""

    frame: ObjectFrame
    radius: float
    half_height: float

    def distance(self, origin: Tensor, direction: Tensor) -> Tensor:
        origin, direction = self.frame.inward(origin, direction)
        (ox, oy, oz), (dx, dy, dz) = origin, direction
        a = (dx * dx + dz * dz).clamp_min(_TINY)
        b = ox * dx + oz * dz
        c = ox * ox + oz * oz - self.radius**2
        root = b * b - a * c
        half_chord = root.clamp_min(0).sqrt()
        inverse = 1.0 / _away_from_zero(dy)
        low, high = (-self.half_height - oy) * inverse, (self.half_height - oy) * inverse
        enter = torch.maximum((-b - half_chord) / a, torch.minimum(low, high))
        leave = torch.minimum((-b + half_chord) / a, torch.maximum(low, high))
        return _visible(enter, hit=(root > 0) & (leave >= enter))

    def surface(self, point: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = local = self.frame.local(point)
        zero, reach = torch.zeros_like(x), torch.hypot(x, z).clamp_min(_TINY)
        cap = (self.half_height - y.abs()) < (self.radius - reach)
        upright = torch.stack((zero, torch.sign(y), zero))
        normal = torch.where(cap, upright, torch.stack((x / reach, zero, z / reach)))
        around = torch.stack((torch.atan2(z, x) * self.radius, y))
        return self.frame.outward(normal), torch.where(cap, local[[0, 2]], around)


@dataclass(frozen=True)
class Ground:
    """The horizontal plane at ``height``, seen from above."""

    height: float

    def distance(self, origin: Tensor, direction: Tensor) -> Tensor:
        t = (self.height - origin[1]) / _away_from_zero(direction[1])
        return _visible(t, hit=(direction[1] < 0) & (origin[1] > self.height))

    def surface(self, point: Tensor) -> tuple[Tensor, Tensor]:
        normal = torch.zeros_like(point)
        normal[1] = 1.0
        return normal, point[[0, 2]]


def about_x(angle: float) -> np.ndarray:
    """A rotation about the x axis (to the right), (3, 3); ``angle`` in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def about_y(angle: float) -> np.ndarray:
    """A rotation about the y axis (upwards), (3, 3); ``angle`` in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def about_z(angle: float) -> np.ndarray:
    """A rotation about the z axis (forwards), (3, 3); ``angle`` in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def turned(rng: np.random.Generator, limit: float = np.pi) -> np.ndarray:
    """A random rotation about the y axis by at most ``limit`` radians either way, (3, 3)."""
    return about_y(rng.uniform(-limit, limit))


def _visible(t: Tensor, *, hit: Tensor) -> Tensor:
    return torch.where(hit & (t > _NEAR), t, torch.inf)


def _away_from_zero(values: Tensor) -> Tensor:
    return torch.where(values.abs() < _TINY, torch.full_like(values, _TINY), values)


def _column(values: np.ndarray, other: Tensor) -> Tensor:
    return _like(values, other)[:, None]


def _like(values: np.ndarray, other: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=other.dtype, device=other.device)
