"""Layouts of scenes: rooms, landscapes, table tops and person-like close-ups, drawn from a seed (NumPy only).

Each kind teaches something about depth: rooms for perspective and occlusion, landscapes for horizon and
sky, table tops for cameras that look down, close-ups for a near body in front of a far background.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dpt_deploy.scenes import things
from dpt_deploy.scenes.geometry import UPRIGHT, Box, Ground, ObjectFrame, about_x, about_y, about_z, turned
from dpt_deploy.scenes.materials import random_material, random_sky
from dpt_deploy.scenes.texture import Material
from dpt_deploy.scenes.things import Thing, Vector

# probability of each kind
SHARES = {"room": 0.4, "landscape": 0.3, "table": 0.15, "close-up": 0.15}


@dataclass(frozen=True)
class Camera:
    """A camera; the columns of ``rotation`` are right, up and forward, ``view`` is the horizontal angle in radians."""

    position: Vector
    rotation: Vector
    view: float


@dataclass(frozen=True)
class Light:
    """The sun (``direction`` towards it, ``position`` None) or a lamp, plus ambient light."""

    direction: Vector
    position: Vector | None
    strength: float
    ambient: float
    tint: Vector


@dataclass
class Layout:
    """Contents of one scene. ``haze`` is the distance in metres at which air absorbs 63 % (None: clear air)."""

    kind: str
    camera: Camera
    light: Light
    things: list[Thing] = field(default_factory=list)
    haze: float | None = None
    sky: Material | None = None


def compose(seed: int) -> Layout:
    """Draw the scene of a seed."""
    rng = np.random.default_rng([seed, 0x0D97])
    return _KINDS[_kind(rng)](rng)


def kind_of(seed: int) -> str:
    """Return the kind of a seed's scene without drawing it."""
    return _kind(np.random.default_rng([seed, 0x0D97]))


def _kind(rng: np.random.Generator) -> str:
    return str(rng.choice(list(SHARES), p=list(SHARES.values())))


def balanced(first: int, count: int) -> list[int]:
    """Choose ``count`` seeds from ``first`` on whose kinds match :data:`SHARES` to within one scene.

    Kinds differ far more in difficulty than scenes of one kind. Of 48 consecutive seeds, 4 to 9 are close-ups, which
    alone shifts a mean. The next seed is always of the kind furthest below its share. A shorter list is a prefix of a
    longer one.
    """
    waiting: dict[str, list[int]] = {kind: [] for kind in SHARES}
    taken = dict.fromkeys(SHARES, 0)
    seeds, found = itertools.count(first), []
    for total in range(1, count + 1):
        kind = max(SHARES, key=lambda each: SHARES[each] * total - taken[each])
        while not waiting[kind]:
            seed = next(seeds)
            waiting[kind_of(seed)].append(seed)
        found.append(waiting[kind].pop(0))
        taken[kind] += 1
    return found


def _room(rng: np.random.Generator) -> Layout:
    width, height, length = rng.uniform(2.5, 8), rng.uniform(2.3, 4), rng.uniform(3, 12)
    eye = np.array([rng.uniform(-0.35, 0.35) * width, rng.uniform(0.7, 2.0), -length / 2 + rng.uniform(0.2, 1.0)])
    camera = _camera(rng, eye, yaw=rng.normal(0, 0.5), pitch=rng.uniform(-0.45, 0.15))
    layout = Layout("room", camera, _indoor_light(rng, np.array([width, height, length])))
    shell = Box(ObjectFrame(np.array([0, height / 2, 0]), UPRIGHT), np.array([width, height, length]) / 2, room=True)
    layout.things.append(Thing(shell, random_material(rng, rng.uniform(0.3, 2), calm=True), "wall"))
    floor = Box(ObjectFrame(np.array([0, -0.02, 0]), UPRIGHT), np.array([width / 2, 0.025, length / 2]))
    layout.things.append(Thing(floor, random_material(rng, rng.uniform(0.15, 1)), "ground"))
    for _ in range(rng.integers(1, 4)):
        layout.things += things.on_wall(rng, width, height, length)
    for _ in range(rng.integers(3, 12)):
        spot = np.array([rng.uniform(-0.5, 0.5) * width, 0, rng.uniform(-0.3, 0.5) * length])
        layout.things += things.furniture(rng, spot)
    return layout


def _landscape(rng: np.random.Generator) -> Layout:
    eye = np.array([0, rng.choice([rng.uniform(0.8, 2.2), rng.uniform(2, 9)], p=[0.7, 0.3]), 0])
    camera = _camera(rng, eye, yaw=rng.normal(0, 0.3), pitch=rng.uniform(-0.3, 0.15))
    layout = Layout("landscape", camera, _sun(rng), sky=random_sky(rng))
    layout.things.append(Thing(Ground(0.0), random_material(rng, rng.uniform(0.4, 5)), "ground"))
    for _ in range(rng.integers(0, 4)):
        layout.things.append(things.hill(rng))
    if rng.random() < 0.5:
        layout.things += things.street(rng)
    for _ in range(rng.integers(3, 14)):
        depth = np.exp(rng.uniform(np.log(2.5), np.log(50)))
        spot = np.array([rng.uniform(-0.8, 0.8) * depth, 0, depth])
        layout.things += things.outdoor_thing(rng, spot)
    layout.haze = float(np.exp(rng.uniform(np.log(40), np.log(600)))) if rng.random() < 0.5 else None
    return layout


def _table(rng: np.random.Generator) -> Layout:
    distance, down = rng.uniform(0.35, 1.3), rng.uniform(0.25, 1.35)
    eye = np.array([0, distance * np.sin(down), -distance * np.cos(down)])
    camera = _camera(rng, eye, yaw=rng.normal(0, 0.08), pitch=-down + rng.normal(0, 0.08))
    room = np.array([rng.uniform(2, 6), 6.0, rng.uniform(2, 6)])
    layout = Layout("table", camera, _indoor_light(rng, np.array([2, 2.5, 2])))
    shell = Box(ObjectFrame(np.array([0, 2.2, 0]), turned(rng)), room / 2, room=True)
    layout.things.append(Thing(shell, random_material(rng, rng.uniform(0.2, 1)), "wall"))
    half = np.array([rng.uniform(0.4, 1.5), 0.02, rng.uniform(0.4, 1.2)])
    top = Box(ObjectFrame(np.array([0, -0.02, 0.2]), turned(rng, 0.3)), half)
    layout.things.append(Thing(top, random_material(rng, rng.uniform(0.04, 0.4)), "furniture"))
    for _ in range(rng.integers(2, 10)):
        spot = np.array([rng.normal(0, 0.22), 0, rng.normal(0.08, 0.25)])
        layout.things += things.small_thing(rng, spot)
    return layout


def _close_up(rng: np.random.Generator) -> Layout:
    """Draw a head and shoulders near the camera, in a room or a landscape."""
    layout = _room(rng) if rng.random() < 0.6 else _landscape(rng)
    layout.kind = "close-up"
    camera = layout.camera
    distance, size = rng.uniform(0.6, 1.6), rng.uniform(0.10, 0.22)
    aside = rng.normal(0, 0.15) * distance * camera.rotation[:, 0]
    head = camera.position + distance * camera.rotation[:, 2] + aside
    head[1] = camera.position[1] + rng.normal(0, 0.08)
    layout.things += things.bust(rng, head, size, camera.rotation)
    if rng.random() < 0.5:  # an arm, a tool, a branch
        middle, length = head + rng.normal(0, 0.25, 3), rng.uniform(0.2, 0.6)
        layout.things.append(things.stick(rng, middle, length, random_material(rng, 0.1)))
    return layout


_KINDS: dict[str, Callable[[np.random.Generator], Layout]] = {
    "room": _room,
    "landscape": _landscape,
    "table": _table,
    "close-up": _close_up,
}


def _camera(rng: np.random.Generator, eye: Vector, *, yaw: float, pitch: float) -> Camera:
    roll = rng.normal(0, 0.04)
    rotation = about_y(yaw) @ about_x(-pitch) @ about_z(roll)
    return Camera(eye, rotation, view=rng.uniform(0.7, 1.35))


def _sun(rng: np.random.Generator) -> Light:
    direction = np.array([rng.normal(), rng.uniform(0.25, 1.5), rng.normal(0, 0.8)])
    tint = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.7, 1.0)])
    return Light(direction / np.linalg.norm(direction), None, rng.uniform(0.5, 1.1), rng.uniform(0.25, 0.6), tint)


def _indoor_light(rng: np.random.Generator, room: Vector) -> Light:
    position = np.array([rng.uniform(-0.4, 0.4), rng.uniform(0.7, 0.97), rng.uniform(-0.4, 0.4)]) * room
    tint = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.6, 1.0)])
    return Light(np.array([0.0, 1.0, 0.0]), position, rng.uniform(0.5, 1.0), rng.uniform(0.25, 0.6), tint)
