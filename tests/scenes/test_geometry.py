"""Rays against solids: distances, normals and texture coordinates against the solids' equations."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from dpt_deploy.scenes.geometry import (
    UPRIGHT,
    Box,
    Cylinder,
    Ellipsoid,
    Ground,
    ObjectFrame,
    about_x,
    about_y,
    about_z,
    turned,
)

ROTATION = about_y(0.7) @ about_x(-0.4) @ about_z(0.2)
TILTED = ObjectFrame(np.array([0.3, -0.2, 0.5]), ROTATION)
SOLIDS = {
    "box": Box(TILTED, np.array([0.5, 0.8, 0.3])),
    "room": Box(TILTED, np.array([4.0, 3.0, 5.0]), room=True),
    "ellipsoid": Ellipsoid(TILTED, np.array([0.9, 0.4, 0.6])),
    "cylinder": Cylinder(TILTED, 0.5, 0.7),
    "ground": Ground(-1.0),
}
STEPS, REACH = 3000, 12.0


def equation(solid, point):
    """Evaluate, at points (3, N), a function that is 0 on the surface of ``solid`` and negative inside."""
    if isinstance(solid, Ground):
        return point[1] - solid.height
    x, y, z = solid.frame.rotation.T @ (point - solid.frame.centre[:, None])
    if isinstance(solid, Box):
        return np.max(np.abs([x, y, z]) - solid.half[:, None], axis=0)
    if isinstance(solid, Ellipsoid):
        a, b, c = solid.radii
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 - 1
    return np.maximum(np.hypot(x, z) - solid.radius, np.abs(y) - solid.half_height)


def marched(solid, origin, direction):
    """Find where rays first cross the surface, by small steps and bisection; infinite if they do not."""
    inside = -1.0 if getattr(solid, "room", False) else 1.0
    found = np.full(origin.shape[1], np.inf)
    steps = np.linspace(0, REACH, STEPS + 1)
    before = inside * equation(solid, origin)
    for low, high in pairwise(steps):
        after = inside * equation(solid, origin + high * direction)
        new = (before > 0) & (after <= 0) & np.isinf(found)
        if new.any():
            found[new] = bisected(solid, origin[:, new], direction[:, new], low, high, inside)
        before = after
    return found


def bisected(solid, origin, direction, low, high, inside):
    low, high = np.full(origin.shape[1], low), np.full(origin.shape[1], high)
    for _ in range(45):
        middle = (low + high) / 2
        outside = inside * equation(solid, origin + middle * direction) > 0
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return (low + high) / 2


def rays(solid, count=400):
    """From around the solid to its surroundings: some hit, some miss. From inside for a room."""
    rng = np.random.default_rng(5)
    if getattr(solid, "room", False):
        origin, direction = rng.uniform(-1.5, 1.5, (3, count)), rng.normal(size=(3, count))
    else:
        origin = rng.normal(size=(3, count))
        origin *= 4 / np.linalg.norm(origin, axis=0)
        direction = rng.uniform(-1, 1, (3, count)) - origin
    return origin, direction / np.linalg.norm(direction, axis=0)


def distances(solid, origin, direction):
    return solid.distance(torch.from_numpy(origin), torch.from_numpy(direction)).numpy()


def disagreement(solid, truth):
    """The largest difference between the distances to a solid and the marched ones to ``truth``."""
    origin, direction = rays(truth)
    expected, found = marched(truth, origin, direction), distances(solid, origin, direction)
    found = np.where(found > REACH, np.inf, found)
    both = np.isfinite(expected) & np.isfinite(found)
    assert both.sum() > 50
    same = (np.isfinite(expected) == np.isfinite(found)).all()
    return np.abs(found[both] - expected[both]).max() if same else np.inf


@pytest.mark.parametrize("name", SOLIDS)
def test_the_distance_is_where_the_equation_changes_its_sign(name):
    assert disagreement(SOLIDS[name], SOLIDS[name]) < 1e-9


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (replace(SOLIDS["box"], half=SOLIDS["box"].half * 1.01), "box"),
        (replace(SOLIDS["ellipsoid"], frame=replace(TILTED, rotation=ROTATION.T)), "ellipsoid"),
        (replace(SOLIDS["cylinder"], half_height=0.71), "cylinder"),
        (Ground(-1.001), "ground"),
    ],
    ids=["larger", "turned", "longer", "lower"],
)
def test_another_solid_is_noticed(found, truth):
    assert disagreement(found, SOLIDS[truth]) > 1e-3


@pytest.mark.parametrize("name", SOLIDS)
def test_float32_is_exact_enough_for_a_depth_map(name):
    origin, direction = (values.astype(np.float32) for values in rays(SOLIDS[name]))
    exact = distances(SOLIDS[name], origin.astype(np.float64), direction.astype(np.float64))
    found = distances(SOLIDS[name], origin, direction)
    assert found.dtype == np.float32
    both = np.isfinite(exact) & np.isfinite(found)
    assert (np.isfinite(exact) == np.isfinite(found)).mean() > 0.99
    error = np.abs(found[both] - exact[both])
    assert np.median(error) < 1e-5  # metres, at 4 m
    assert np.quantile(error, 0.99) < 1e-3


# --- what a camera does not see ---------------------------------------------------------------------------------------


def along(origin, direction):
    return torch.tensor(origin, dtype=torch.float64)[:, None], torch.tensor(direction, dtype=torch.float64)[:, None]


def seen(solid, origin, direction):
    return float(solid.distance(*along(origin, direction)))


STRAIGHT = ObjectFrame(np.zeros(3), UPRIGHT)


@pytest.mark.parametrize(
    ("solid", "origin", "direction", "distance"),
    [
        (Box(STRAIGHT, np.ones(3)), (0, 0, -3), (0, 0, 1), 2),
        (Box(STRAIGHT, np.ones(3)), (0, 0, -3), (0, 0, 2), 1),
        (Box(STRAIGHT, np.ones(3)), (2, 0, -3), (0, 0, 1), np.inf),
        (Box(STRAIGHT, np.ones(3)), (0, 0, 3), (0, 0, 1), np.inf),
        (Box(STRAIGHT, np.ones(3)), (0, 0, 0), (0, 0, 1), np.inf),
        (Box(STRAIGHT, np.ones(3), room=True), (0.5, 0, 0), (1, 0, 0), 0.5),
        (Ellipsoid(STRAIGHT, np.array([1.0, 2.0, 3.0])), (0, 5, 0), (0, -1, 0), 3),
        (Ellipsoid(STRAIGHT, np.array([1.0, 2.0, 3.0])), (0, 0, 0), (0, -1, 0), np.inf),
        (Cylinder(STRAIGHT, 1.0, 2.0), (0, 5, 0), (0, -1, 0), 3),
        (Cylinder(STRAIGHT, 1.0, 2.0), (0.5, 5, 0.5), (0, -1, 0), 3),
        (Cylinder(STRAIGHT, 1.0, 2.0), (1.5, 5, 0), (0, -1, 0), np.inf),
        (Cylinder(STRAIGHT, 1.0, 2.0), (-5, 0, 0), (1, 0, 0), 4),
        (Cylinder(STRAIGHT, 1.0, 2.0), (-5, 2.5, 0), (1, 0, 0), np.inf),
        (Ground(0.0), (0, 2, 0), (0, -1, 1), 2),
        (Ground(0.0), (0, 2, 0), (0, 0, 1), np.inf),
        (Ground(0.0), (0, -2, 0), (0, 1, 0), np.inf),
    ],
)
def test_distances_that_need_no_computer(solid, origin, direction, distance):
    assert seen(solid, origin, direction) == pytest.approx(distance, abs=1e-12)


def test_a_surface_does_not_hide_itself_from_the_light():
    assert seen(Box(STRAIGHT, np.ones(3)), (0, 1, 0), (0.3, 1, 0)) == np.inf
    assert seen(Ground(0.0), (0, 0, 0), (0, 1, 0)) == np.inf


# --- surfaces ---------------------------------------------------------------------------------------------------------


def on_surface(solid):
    """Points (3, N) on the surface, and those of them that are away from edges."""
    origin, direction = rays(solid)
    t = distances(solid, origin, direction)
    point = (origin + t * direction)[:, np.isfinite(t)]
    step = 1e-4
    gradient = np.stack(
        [
            (equation(solid, point + step * axis[:, None]) - equation(solid, point - step * axis[:, None])) / (2 * step)
            for axis in np.eye(3)
        ]
    )
    smooth = np.abs(np.linalg.norm(gradient, axis=0) - 1) < 1e-6 if not isinstance(solid, Ellipsoid) else slice(None)
    return point[:, smooth], (gradient / np.linalg.norm(gradient, axis=0))[:, smooth]


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_are_the_gradient_of_the_equation(name):
    solid = SOLIDS[name]
    point, gradient = on_surface(solid)
    assert point.shape[1] > 50
    assert np.abs(equation(solid, point)).max() < 1e-9
    normal, _ = solid.surface(torch.from_numpy(point))
    towards = -1 if name == "room" else 1  # a room is seen from inside
    assert np.abs(normal.numpy() - towards * gradient).max() < 1e-6


@pytest.mark.parametrize("name", [name for name in SOLIDS if name != "ellipsoid"])  # which no flat map fits
def test_texture_lies_on_a_surface_without_stretching(name):
    """A step of a millimetre along a face moves its coordinates by a millimetre."""
    solid = SOLIDS[name]
    point, normal = on_surface(solid)
    aside = np.cross(normal.T, np.random.default_rng(0).normal(size=3)).T
    aside *= 1e-3 / np.linalg.norm(aside, axis=0)
    _, here = solid.surface(torch.from_numpy(point))
    _, there = solid.surface(torch.from_numpy(point + aside))
    moved = np.linalg.norm((there - here).numpy(), axis=0)
    assert np.median(moved) == pytest.approx(1e-3, rel=1e-3)
    assert np.mean(np.abs(moved - 1e-3) < 1e-5) > 0.95  # but for a seam


def test_opposite_walls_do_not_look_alike():
    wall = Box(STRAIGHT, np.ones(3), room=True)
    point = torch.tensor([[1.0, -1.0], [0.2, 0.2], [0.3, 0.3]])
    _, uv = wall.surface(point)
    assert (uv[:, 0] - uv[:, 1]).abs().min() > 1


# --- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [ROTATION, turned(np.random.default_rng(1)), about_z(np.pi / 3)])
def test_rotations_keep_lengths_and_handedness(rotation):
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_a_frame_goes_there_and_back():
    vector = torch.randn(3, 7, dtype=torch.float64)
    origin = torch.from_numpy(TILTED.centre)[:, None]
    assert torch.allclose(TILTED.local(TILTED.outward(vector) + origin), vector)
    assert not torch.allclose(TILTED.local(TILTED.outward(vector)), vector)
