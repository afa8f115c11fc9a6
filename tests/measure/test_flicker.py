"""Flicker of rendered camera moves: none of exact depth, that of a planted scale, shift and noise."""

from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.measure.flicker import flicker
from dpt_deploy.scenes.layouts import compose
from dpt_deploy.scenes.render import render_layout

pytestmark = pytest.mark.needs("torch")
FRAMES = 5


@pytest.fixture(scope="module")
def truth():
    layout, frames = compose(5), []
    for step in range(FRAMES):
        camera = replace(layout.camera, position=layout.camera.position + 0.03 * step * layout.camera.rotation[:, 2])
        depth = render_layout(replace(layout, camera=camera), 5, height=24, width=32).depth
        frames.append(np.where(np.isfinite(depth), 1 / depth, 0))
    return np.array(frames, np.float64)


def test_a_camera_that_moves_is_no_flicker(truth):
    assert np.abs(np.diff(truth, axis=0)).mean() > 1e-4
    assert flicker(truth * 7 - 3, truth) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("part", ["scale", "shift"])
def test_a_planted_scale_or_shift_flickers_and_leaves_with_the_frames_own_alignment(truth, part):
    varying = np.array([1, 1.2, 0.9, 1.1, 1.0])[:, None, None]
    planted = truth * varying if part == "scale" else truth + 0.1 * varying
    assert flicker(planted, truth).change > 0.005
    assert flicker(planted, truth, each_frame=True) == pytest.approx((0, 0), abs=1e-12)


def test_planted_noise_stays_and_a_constant_error_does_not_flicker(truth):
    noisy = truth + np.random.default_rng(0).normal(0, 0.05, truth.shape)
    assert flicker(noisy, truth, each_frame=True).change > 0.8 * flicker(noisy, truth).change > 0.005
    still = np.repeat(truth[:1], FRAMES, axis=0)
    wrong = still + np.random.default_rng(0).normal(0, 0.05, still[0].shape)
    assert flicker(wrong, still).change == pytest.approx(0, abs=1e-12)
    assert flicker(wrong, still).error > 0.005


def test_what_is_no_video_is_refused(truth):
    for maps, exact in ((truth[:1], truth[:1]), (truth, truth[1:]), (truth, np.ones_like(truth))):
        with pytest.raises(ValueError, match="expected"):
            flicker(maps, exact)
