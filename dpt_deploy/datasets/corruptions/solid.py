"""Corruptions that need the photograph and its depth, after Kar et al., "3D common corruptions" (CVPR 2022).

Written from the paper's formulas. Deviations: fog takes distances over the median of the image, so that scenes of
every extent get the same fog; its air light is the mean of the image itself. A moving camera is approximated by layers
of equal depth instead of a rendered point cloud. Lengths are stated for 512 pixels and grow with the shorter side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.datasets.corruptions import filters
from dpt_deploy.datasets.corruptions.clean import SCENE_SIDE_3D, CleanImage, Pixels, Rng

Map = NDArray[np.float32]

_FOG = (4, 8, 12, 16, 20)  # attenuation over the unit of depth
_FOG_MEDIAN = 0.2  # the median of an image in that unit: 3 m of the 15.6 m of an indoor data set
_APERTURE = 2.0  # plus the severity, in pixels
_FAR_APERTURE = 0.5
_PLANES, _FAR_PLANE = 9, 7
_LAYERS = 7  # of a moving camera
_SIDEWAYS = tuple(62.5 * frames / 60 for frames in (20, 30, 40, 50, 60))  # pixels that the nearest layer moves
_FORWARD = tuple(1 / (1 - 0.45 * frames / 60) for frames in (20, 25, 30, 35, 38))  # enlargement of the nearest layer
_FORWARD_STEPS = 5
_WIDEST = 32.0  # pixels: bounds the blur of a point much nearer than the focus
_FLASH = (2.4, 1.4, 0.9, 0.6, 0.4)  # a smaller number is a stronger flash


def fog_3d(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Mix in air light by distance: ``t J + (1 - t) A`` with ``t = exp(-alpha z)``."""
    depth = clean.depth()
    z = np.minimum(_FOG_MEDIAN * depth / np.median(depth), 1)
    clear = np.exp(-_FOG[severity - 1] * z)[..., None]
    return clear * clean.pixels + (1 - clear) * clean.pixels.mean()


def near_focus(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Blur what is far: a large aperture focused on the nearest point."""
    return _focused(clean, 0, severity + _APERTURE)


def far_focus(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Blur what is near: a large aperture focused on the background."""
    return _focused(clean, _FAR_PLANE, severity + _FAR_APERTURE)


def xy_motion(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Blur along a line, near layers more than far ones: a camera that moves sideways."""
    planes, angle = _planes(clean.depth(), _LAYERS), rng.uniform(0, math.pi)
    longest = _SIDEWAYS[severity - 1] * clean.scale(SCENE_SIDE_3D)
    layers = [filters.line(clean.pixels, longest * planes[0] / plane, angle) for plane in planes]
    return _composed(clean.depth(), planes, layers)


def z_motion(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Average enlargements, of near layers more than of far ones: a camera that moves forward."""
    planes, most = _planes(clean.depth(), _LAYERS), _FORWARD[severity - 1] - 1
    factors = [1 + most * planes[0] / plane for plane in planes]
    layers = [filters.mean_zoom(clean.pixels, factor, (factor - 1) / _FORWARD_STEPS) for factor in factors]
    return _composed(clean.depth(), planes, layers)


def flash(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Light surfaces that face the camera: ``J + J R / c``, R the cosine between normal and view."""
    return clean.pixels * (1 + facing(clean.depth())[..., None] / _FLASH[severity - 1])


def facing(depth: Map) -> Map:
    """Cosine (H, W) between the surface and the direction to the camera, for a field of view of 53 degrees."""
    height, width = depth.shape
    focal = float(max(height, width))
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / focal
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / focal
    rays = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((height, width), np.float32)], axis=-1)
    points = rays * depth[..., None]
    normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(rays, axis=-1)
    return np.asarray(np.abs((normals * rays).sum(axis=-1)) / np.maximum(lengths, 1e-12), np.float32)


def _focused(clean: CleanImage, sharp: int, aperture: float) -> Pixels:
    depth = clean.depth()
    planes = _planes(depth, _PLANES)
    wide = aperture * clean.scale(SCENE_SIDE_3D)
    widest = _WIDEST * clean.scale(SCENE_SIDE_3D)
    sigmas = [min(widest, wide * abs(plane - planes[sharp]) / plane) for plane in planes]
    return _composed(depth, planes, [filters.gaussian(clean.pixels, sigma) for sigma in sigmas])


def _planes(depth: Map, count: int) -> list[float]:
    """Quantiles of the depth, from the nearest point to the farthest."""
    return [float(each) for each in np.quantile(depth, np.linspace(0, 1, count))]


def _composed(depth: Map, planes: Sequence[float], layers: Sequence[Pixels]) -> Pixels:
    """Mix, for every pixel, the layers of the two planes around it; a plane that is near in depth weighs more."""
    edges = np.asarray(planes, np.float32)
    below = (np.searchsorted(edges, depth, side="right") - 1).clip(0, len(edges) - 2)
    width = np.maximum(edges[below + 1] - edges[below], 1e-6)
    place = ((depth - edges[below]) / width).clip(0, 1)
    nearer, farther = 1 - place**2, 1 - (1 - place) ** 2
    share = (farther / (nearer + farther))[..., None]
    found = np.zeros_like(layers[0])
    for index, layer in enumerate(layers):
        weight = np.where((below == index)[..., None], 1 - share, np.where((below + 1 == index)[..., None], share, 0))
        found += (weight * layer).astype(np.float32)
    return found
