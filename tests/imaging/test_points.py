"""Points of rendered scenes, whose geometry is known exactly: they lie on the surfaces, and planted faults do not."""

import dataclasses
from math import degrees

import numpy as np
import pytest
import torch

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.points import (
    CalibratedCamera,
    CentredCamera,
    Intrinsics,
    PointOptions,
    ViewCamera,
    assumed_depth,
    back_project,
    has_depth,
    is_smooth,
    point_cloud,
    surface_normals,
)
from dpt_deploy.scenes.layouts import compose
from dpt_deploy.scenes.render import render_scene

pytestmark = pytest.mark.needs("torch")

SIZE = Size(48, 64)
SEEDS = (1, 2, 5)
ON_SURFACE = 1e-4  # relative to the depth: float32 of the renderer
CAMERA = CentredCamera(50.0, 50.0)


@pytest.fixture(scope="module", params=SEEDS)
def scene(request):
    return compose(request.param), render_scene(request.param, height=SIZE.height, width=SIZE.width)


def off_surface(layout, points):
    """The relative distance of points (N, 3) in the camera's frame to what the ray through each hits.

    It is the 99.8 % quantile: a ray that grazes a round body is worse in float32 than any other.
    """
    camera = layout.camera
    world = torch.tensor((points * [1, -1, 1]) @ camera.rotation.T + camera.position)
    origin = torch.tensor(camera.position)[:, None]
    ray = (world.T - origin) / torch.tensor(points[:, 2])
    found = (
        torch.stack([thing.solid.distance(origin, ray) for thing in layout.things]).amin(dim=0).clamp_max(1e6).numpy()
    )
    return np.quantile(np.abs(found - points[:, 2]) / points[:, 2], 0.998)


def of_scene(layout):
    return ViewCamera(degrees(layout.camera.view))


def inner(layout, scene, points=None):
    depth = scene.depth
    kept = has_depth(depth) & is_smooth(np.where(has_depth(depth), depth, np.inf), 0.1)
    points = back_project(depth, of_scene(layout).at(SIZE)) if points is None else points
    return points[kept].astype(np.float64)


def test_exact_depth_gives_points_on_the_surfaces(scene):
    layout, rendered = scene
    assert off_surface(layout, inner(layout, rendered)) < ON_SURFACE


def test_the_error_of_points_is_that_of_the_depth(scene):
    layout, rendered = scene
    lens = of_scene(layout).at(SIZE)
    kept = has_depth(rendered.depth)
    exact, wrong = (back_project(rendered.depth * np.float32(factor), lens)[kept] for factor in (1, 1.03))
    np.testing.assert_allclose(wrong - exact, 0.03 * exact, rtol=1e-3, atol=1e-5)


def swapped_axes(depth, lens):
    return back_project(depth, lens)[..., [1, 0, 2]]


def half_a_pixel(depth, lens):
    return back_project(depth, lens._replace(cx=lens.cx + 0.5, cy=lens.cy + 0.5))


def upside_down(depth, lens):
    return back_project(depth, lens) * np.float32([1, -1, 1])


def along_the_ray(depth, lens):
    points = back_project(np.ones_like(depth), lens)
    return points / np.linalg.norm(points, axis=-1, keepdims=True) * depth[..., None]


@pytest.mark.parametrize("fault", [swapped_axes, half_a_pixel, upside_down, along_the_ray])
def test_planted_faults_are_off_the_surfaces(scene, fault):
    layout, rendered = scene
    points = fault(rendered.depth, of_scene(layout).at(SIZE))
    assert off_surface(layout, inner(layout, rendered, points)) > 10 * ON_SURFACE


def test_normals_are_those_of_a_slanted_plane():
    lens = CAMERA.at(SIZE)
    ray = back_project(np.ones((SIZE.height, SIZE.width), np.float32), lens)
    normal = np.array([0.2, -0.5, -0.8]) / np.linalg.norm([0.2, -0.5, -0.8])
    plane = back_project((-2 / (ray @ normal)).astype(np.float32), lens)
    np.testing.assert_allclose(surface_normals(plane), np.broadcast_to(normal, plane.shape), atol=2e-3)


def test_both_sides_of_a_jump_are_dropped_and_no_more():
    depth = np.full((4, 6), 2.0, np.float32)
    depth[:, 3:] = 3.0
    assert is_smooth(depth, 0.1).tolist() == [[True, True, False, False, True, True]] * 4
    assert is_smooth(depth, 0.6).all()


def test_a_stride_takes_the_same_points():
    depth = np.random.default_rng(0).uniform(1, 5, (48, 64)).astype(np.float32)
    lens = Intrinsics(40, 50, 20, 30)
    np.testing.assert_array_equal(back_project(depth, lens, stride=3), back_project(depth, lens)[::3, ::3])


@pytest.mark.parametrize("quantity", ["inverse depth", "relative depth"])
def test_relative_maps_span_the_stated_ratio_whatever_their_scale_and_shift(quantity):
    true = np.linspace(1, 4, 12, dtype=np.float32).reshape(3, 4)
    values = 1 / true if quantity == "inverse depth" else true
    np.testing.assert_allclose(assumed_depth(values, quantity, 4.0), true, rtol=1e-5)
    np.testing.assert_allclose(assumed_depth(values * 7 - 90, quantity, 4.0), true, rtol=1e-4)


def test_metres_are_kept_and_relative_maps_never_called_metres():
    image = np.zeros((48, 64, 3), np.uint8)
    values = np.linspace(1, 3, 48 * 64, dtype=np.float32).reshape(48, 64)
    metric = point_cloud(values, image, "metres", PointOptions(CAMERA, edge=0))
    np.testing.assert_array_equal(metric.points[:, 2], values.ravel())
    relative = point_cloud(values, image, "inverse depth", PointOptions(CAMERA, edge=0))
    assert (metric.note, metric.metric, relative.metric) == ("units metres", True, False)
    assert "relative (not metres)" in relative.note
    with pytest.raises(ValueError, match="canonical depth"):
        point_cloud(values, image, "canonical depth", PointOptions(CAMERA))


def test_pixels_without_depth_become_no_points():
    values = np.full((8, 8), 2.0, np.float32)
    values[0], values[1], values[2] = np.nan, np.inf, -1
    cloud = point_cloud(values, np.zeros((8, 8, 3), np.uint8), "metres", PointOptions(CAMERA, edge=0, normals=True))
    assert len(cloud.points) == 5 * 8
    assert np.isfinite(cloud.normals).all()
    with pytest.raises(UsageError, match="no pixel has a depth"):
        point_cloud(values[:3], np.zeros((3, 8, 3), np.uint8), "metres", PointOptions(CAMERA))


def test_cameras_and_options_out_of_range_are_refused():
    assert ViewCamera(90).at(Size(10, 20)) == pytest.approx((10, 10, 9.5, 4.5))
    with pytest.raises(UsageError, match="field of view"):
        ViewCamera(180)
    with pytest.raises(UsageError, match="intrinsics are"):
        CalibratedCamera(Intrinsics(-1, 1, 0, 0))
    with pytest.raises(UsageError, match="are for images of"):
        CalibratedCamera(Intrinsics(1, 1, 0, 0), Size(2, 3)).at(Size(3, 2))
    for wrong in ({"stride": 0}, {"edge": -1.0}, {"ratio": 1.0}, {"edge": float("nan")}):
        with pytest.raises(UsageError, match="out of range"):
            dataclasses.replace(PointOptions(CAMERA), **wrong)
