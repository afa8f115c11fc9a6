"""Objects in scenes, each with its class: furniture, trees, people, cars, houses (NumPy only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dpt_deploy.scenes.geometry import UPRIGHT, Box, Cylinder, Ellipsoid, ObjectFrame, Solid, about_x, turned
from dpt_deploy.scenes.materials import building_material, random_material
from dpt_deploy.scenes.texture import Material

Class = Literal[
    "sky",
    "ground",  # floors, meadows, hills
    "wall",  # a room's walls and ceiling
    "building",
    "vegetation",
    "furniture",  # tables, cupboards, boxes, pictures
    "round",  # balls, cans, mugs
    "person",
    "vehicle",
    "thin",  # poles, lamps, sticks
]
CLASSES: tuple[Class, ...] = get_args(Class)  # a label is the position in it
Vector = np.ndarray


@dataclass(frozen=True)
class Thing:
    """A solid with its material and its class."""

    solid: Solid
    material: Material
    kind: Class


def furniture(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    """Draw an object that stands on the floor of a room."""
    size = np.array([rng.uniform(0.15, 0.9), rng.uniform(0.15, 1.1), rng.uniform(0.15, 0.7)])
    choice = rng.random()
    if choice < 0.35:
        return [_block(rng, spot, size)]
    if choice < 0.55:
        return _table_with_legs(rng, spot)
    if choice < 0.7:
        return [_can(rng, spot, rng.uniform(0.08, 0.4), rng.uniform(0.2, 0.9))]
    if choice < 0.85:
        return [_ball(rng, spot, rng.uniform(0.08, 0.45))]
    return _lamp(rng, spot)


def on_wall(rng: np.random.Generator, width: float, height: float, length: float) -> list[Thing]:
    """Draw a picture, a cupboard or a shelf on a wall of a room of that size."""
    size = np.array([rng.uniform(0.3, 1.5), rng.uniform(0.2, 1.2), rng.choice([0.04, rng.uniform(0.1, 0.6)])])
    up = rng.uniform(0.3, 0.8) * height
    if rng.random() < 0.5:
        centre = np.array([rng.uniform(-0.4, 0.4) * width, up, length / 2 - size[2] / 2])
    else:
        centre = np.array([rng.choice([-1, 1]) * (width / 2 - size[2] / 2), up, rng.uniform(-0.3, 0.5) * length])
        size = size[[2, 1, 0]]  # its depth lies along x
    return [
        Thing(Box(ObjectFrame(centre, UPRIGHT), size / 2), random_material(rng, rng.uniform(0.1, 0.8)), "furniture")
    ]


def outdoor_thing(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    """Draw an object that stands in a landscape."""
    choice = rng.random()
    if choice < 0.35:
        return _tree(rng, spot)
    if choice < 0.5:
        return _person(rng, spot)
    if choice < 0.65:
        return _car(rng, spot)
    if choice < 0.8:
        return [_block(rng, spot, rng.uniform(0.3, 3, 3))]
    if choice < 0.9:
        return [_can(rng, spot, rng.uniform(0.03, 0.12), rng.uniform(1, 4), "thin")]
    return [_ball(rng, spot, rng.uniform(0.3, 1.5))]


def small_thing(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    """Draw an object that lies on a table."""
    choice = rng.random()
    if choice < 0.35:
        return [_block(rng, spot, rng.uniform(0.02, 0.16, 3))]
    if choice < 0.65:
        return [_can(rng, spot, rng.uniform(0.02, 0.08), rng.uniform(0.01, 0.13))]
    if choice < 0.85:
        return [_ball(rng, spot, rng.uniform(0.02, 0.09))]
    lying = spot + np.array([0, 0.01, 0])
    return [stick(rng, lying, rng.uniform(0.1, 0.3), random_material(rng, 0.02), flat=True)]


def stick(rng: np.random.Generator, centre: Vector, length: float, material: Material, *, flat: bool = False) -> Thing:
    """Draw a thin rod of ``length`` metres: a pencil on a table (``flat``), an arm, a branch."""
    tilt = np.pi / 2 if flat else rng.uniform(-1.2, 1.2)
    rotation = turned(rng) @ about_x(tilt)
    return Thing(
        Cylinder(ObjectFrame(centre, rotation), length * rng.uniform(0.015, 0.06), length / 2), material, "thin"
    )


def bust(rng: np.random.Generator, head: Vector, size: float, rotation: Vector) -> list[Thing]:
    """Draw a head of about ``size`` metres at ``head``, and the shoulders below it."""
    skin = random_material(rng, size, calm=True)
    skull = Ellipsoid(ObjectFrame(head, turned(rng)), size * rng.uniform(0.8, 1.3, 3))
    below = head - np.array([0, size * rng.uniform(2.0, 2.8), 0])
    shoulders = Ellipsoid(ObjectFrame(below, rotation), size * np.array([2.2, 1.7, 1.3]))
    return [Thing(skull, skin, "person"), Thing(shoulders, random_material(rng, size), "person")]


def hill(rng: np.random.Generator) -> Thing:
    """Draw a rounded hill at 40 to 250 m."""
    depth = rng.uniform(40, 250)
    radii = depth * np.array([rng.uniform(0.3, 1.2), rng.uniform(0.05, 0.3), rng.uniform(0.2, 0.5)])
    centre = np.array([rng.uniform(-1, 1) * depth, 0, depth])
    meadow = random_material(rng, depth * 0.1, pattern="noise")
    return Thing(Ellipsoid(ObjectFrame(centre, UPRIGHT), radii), meadow, "ground")


def street(rng: np.random.Generator) -> list[Thing]:
    """Draw one or two rows of houses along the view."""
    half = rng.uniform(3, 12)
    things: list[Thing] = []
    sides = (-1, 1) if rng.random() < 0.7 else (rng.choice([-1, 1]),)
    for side in sides:
        along = rng.uniform(-5, 10)
        while along < 90:
            size = np.array([rng.uniform(5, 12), rng.uniform(3, 18), rng.uniform(5, 20)])
            centre = np.array([side * (half + size[0] / 2), size[1] / 2, along + size[2] / 2])
            things.append(Thing(Box(ObjectFrame(centre, UPRIGHT), size / 2), building_material(rng), "building"))
            along += size[2] + rng.choice([0.0, rng.uniform(1, 10)])
    return things


def _block(rng: np.random.Generator, spot: Vector, size: Vector) -> Thing:
    body = Box(ObjectFrame(_above(spot, size[1] / 2), turned(rng)), size / 2)
    return Thing(body, random_material(rng, float(size.max()) * rng.uniform(0.1, 0.8)), "furniture")


def _can(rng: np.random.Generator, spot: Vector, radius: float, height: float, kind: Class = "round") -> Thing:
    body = Cylinder(ObjectFrame(_above(spot, height / 2), turned(rng)), radius, height / 2)
    return Thing(body, random_material(rng, height * rng.uniform(0.1, 0.8)), kind)


def _ball(rng: np.random.Generator, spot: Vector, radius: float) -> Thing:
    radii = radius * rng.uniform(0.7, 1.3, 3)
    body = Ellipsoid(ObjectFrame(_above(spot, radii[1]), turned(rng)), radii)
    return Thing(body, random_material(rng, radius * rng.uniform(0.2, 1.5)), "round")


def _table_with_legs(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    wide, deep, high = rng.uniform(0.4, 1.6), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9)
    rotation, wood = turned(rng), random_material(rng, rng.uniform(0.1, 0.5))
    top = Box(ObjectFrame(_above(spot, high), rotation), np.array([wide, 0.04, deep]) / 2)
    things = [Thing(top, wood, "furniture")]
    for x in (-1, 1):
        for z in (-1, 1):
            foot = spot + rotation @ np.array([x * (wide / 2 - 0.04), high / 2, z * (deep / 2 - 0.04)])
            things.append(Thing(Cylinder(ObjectFrame(foot, UPRIGHT), 0.025, high / 2), wood, "furniture"))
    if rng.random() < 0.6:
        things.append(_block(rng, _above(spot, high), rng.uniform(0.08, 0.35, 3)))
    if rng.random() < 0.3:  # a back rest makes it a chair
        back = spot + rotation @ np.array([0, high * 1.45, deep / 2])
        things.append(
            Thing(Box(ObjectFrame(back, rotation), np.array([wide, high * 0.9, 0.05]) / 2), wood, "furniture")
        )
    return things


def _lamp(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    high, metal = rng.uniform(1.0, 1.8), random_material(rng, 0.3)
    pole = Cylinder(ObjectFrame(_above(spot, high / 2), UPRIGHT), 0.02, high / 2)
    shade = Cylinder(ObjectFrame(_above(spot, high), UPRIGHT), rng.uniform(0.12, 0.25), 0.12)
    return [Thing(pole, metal, "thin"), Thing(shade, random_material(rng, 0.2), "thin")]


def _tree(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    high, thick = rng.uniform(1.5, 7), rng.uniform(0.06, 0.3)
    trunk = Cylinder(ObjectFrame(_above(spot, high / 2), UPRIGHT), thick, high / 2)
    leaves = random_material(rng, rng.uniform(0.2, 0.8), pattern="spots", hue=np.array([0.25, 0.45, 0.15]))
    bark = random_material(rng, 0.3, pattern="grain", hue=np.array([0.3, 0.2, 0.12]))
    things = [Thing(trunk, bark, "vegetation")]
    for _ in range(rng.integers(1, 4)):
        centre = _above(spot, high) + rng.normal(0, 0.12, 3) * high
        crown = Ellipsoid(ObjectFrame(centre, turned(rng)), high * rng.uniform(0.18, 0.42, 3))
        things.append(Thing(crown, leaves, "vegetation"))
    return things


def _person(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    high = rng.uniform(1.5, 1.9)
    legs = Cylinder(ObjectFrame(_above(spot, 0.24 * high), UPRIGHT), 0.14, 0.24 * high)
    chest = Ellipsoid(ObjectFrame(_above(spot, 0.66 * high), turned(rng)), high * np.array([0.15, 0.2, 0.09]))
    head = Ellipsoid(ObjectFrame(_above(spot, 0.93 * high), UPRIGHT), high * np.array([0.05, 0.07, 0.06]))
    trousers, shirt, skin = random_material(rng, 0.3), random_material(rng, 0.3), random_material(rng, 0.2, calm=True)
    return [Thing(legs, trousers, "person"), Thing(chest, shirt, "person"), Thing(head, skin, "person")]


def _car(rng: np.random.Generator, spot: Vector) -> list[Thing]:
    rotation, paint = turned(rng), random_material(rng, 1.0, calm=True)
    body = Box(ObjectFrame(_above(spot, 0.6), rotation), np.array([0.85, 0.35, 2.1]))
    cabin = Box(ObjectFrame(_above(spot, 1.2), rotation), np.array([0.75, 0.28, 1.1]))
    return [Thing(body, paint, "vehicle"), Thing(cabin, random_material(rng, 1.0, calm=True), "vehicle")]


def _above(spot: Vector, height: float) -> Vector:
    return np.asarray(spot + np.array([0, height, 0]))
