"""Corruptions that need depth: what the formulas say where the answer is known."""

import numpy as np
import pytest

from dpt_deploy.datasets.corruptions import solid
from dpt_deploy.datasets.corruptions.clean import CleanImage

SIDE = 128
PIXELS = np.random.default_rng(0).random((SIDE, SIDE, 3), np.float32)
RAMP = np.repeat(np.linspace(1, 9, SIDE, dtype=np.float32)[:, None], SIDE, 1)  # near at the top
STEP = np.where(np.arange(SIDE)[:, None] < SIDE // 2, 1, 20).astype(np.float32) * np.ones((1, SIDE), np.float32)


def rng():
    return np.random.default_rng(1)


def change(damage, depth, severity=3):
    """Mean absolute change of each row."""
    found = damage(CleanImage(PIXELS, depth), rng(), severity)
    return np.abs(found - PIXELS).mean(axis=(1, 2))


def test_fog_follows_its_formula():
    depth = RAMP
    found = solid.fog_3d(CleanImage(PIXELS, depth), rng(), 2)
    z = 0.2 * depth / np.median(depth)
    clear = np.exp(-8 * z)[..., None]
    assert np.abs(found - (clear * PIXELS + (1 - clear) * PIXELS.mean())).max() < 1e-5


def test_no_fog_at_the_camera_and_nothing_but_fog_far_away():
    depth = np.full((SIDE, SIDE), 3, np.float32)
    depth[0], depth[-1] = 1e-6, 1e6
    found = solid.fog_3d(CleanImage(PIXELS, depth), rng(), 5)
    assert np.abs(found[0] - PIXELS[0]).max() < 1e-4
    assert np.abs(found[-1] - PIXELS.mean()).max() < 1e-4


def test_near_focus_blurs_the_background_and_far_focus_the_foreground():
    near, far = change(solid.near_focus, STEP), change(solid.far_focus, STEP)
    top, bottom = slice(0, SIDE // 2), slice(SIDE // 2, SIDE)
    assert near[top].max() < 1e-6 < 0.1 < near[bottom].min()
    assert far[bottom].max() < 1e-6 < 0.1 < far[top].min()


def test_the_nearest_pixels_stay_sharp():
    assert change(solid.near_focus, RAMP)[0] < 1e-5


@pytest.mark.parametrize("damage", [solid.xy_motion, solid.z_motion])
def test_motion_moves_near_pixels_more(damage):
    found = change(damage, STEP)
    assert found[: SIDE // 2].mean() > 1.5 * found[SIDE // 2 :].mean()


def test_a_flash_lights_what_faces_the_camera():
    facing = solid.facing(np.full((SIDE, SIDE), 2, np.float32))
    assert facing[SIDE // 2, SIDE // 2] == pytest.approx(1, abs=1e-3)
    floor = 1 / np.linspace(0.05, 0.5, SIDE, dtype=np.float32)[:, None] * np.ones((1, SIDE), np.float32)
    assert solid.facing(floor)[SIDE // 2 :].mean() < 0.8 * facing.mean()


def test_a_uniform_depth_and_a_constant_image_are_no_trouble():
    flat = np.full((SIDE, SIDE), 2, np.float32)
    for damage in (solid.fog_3d, solid.near_focus, solid.far_focus, solid.xy_motion, solid.z_motion, solid.flash):
        assert np.isfinite(damage(CleanImage(PIXELS, flat), rng(), 5)).all()


def test_planes_are_mixed_without_seams_or_loss():
    planes = solid._planes(RAMP, 9)
    same = solid._composed(RAMP, planes, [PIXELS] * 9)
    assert np.abs(same - PIXELS).max() < 1e-6
    levels = solid._composed(RAMP, planes, [np.full_like(PIXELS, index) for index in range(9)])[:, 0, 0]
    assert (np.diff(levels) >= 0).all()
    assert (levels[0], levels[-1]) == (0, 8)
