"""Frost that is drawn: the paper's shares, the same pane for all severities, and ice of the stated sizes."""

import numpy as np
import pytest

from dpt_deploy.datasets.corruptions import frost
from dpt_deploy.datasets.corruptions.clean import CleanImage
from dpt_deploy.datasets.corruptions.registry import CORRUPTIONS, corrupt

IMAGE = np.random.default_rng(0).random((224, 224, 3), np.float32)


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("severity", "kept", "added"),
    [(1, 1.0, 0.4), (2, 0.8, 0.6), (3, 0.7, 0.7), (4, 0.65, 0.7), (5, 0.6, 0.75)],
)
def test_image_and_pane_have_the_shares_of_the_paper(severity, kept, added):
    pane = frost.pane((224, 224), 1.0, rng())
    found = frost.frost(CleanImage(IMAGE), rng(), severity)
    assert np.abs(found - (kept * IMAGE + added * pane)).max() < 1e-6


def test_a_larger_severity_leaves_less_of_the_image_and_shows_more_of_the_frost():
    black, white = (CleanImage(np.full((96, 96, 3), level, np.float32)) for level in (0, 1))
    ice = [frost.frost(black, rng(), each) for each in range(1, 6)]
    contrast = [(frost.frost(white, rng(), each) - dark).mean() for each, dark in enumerate(ice, 1)]
    assert (np.diff([each.mean() for each in ice]) >= -1e-6).all()
    assert (np.diff(contrast) < 0).all()


def test_twigs_stand_at_60_degrees_on_their_branch_and_shorten_towards_its_tip():
    branch = np.array([[10.0, 20.0, 0.3, 100.0]])
    twigs = frost._twigs(branch, 5.0, 0.4, 1.0, rng())
    assert np.allclose(np.abs(twigs[:, 2] - 0.3), np.pi / 3)
    along = (twigs[:, 0] - 10) * np.cos(0.3) + (twigs[:, 1] - 20) * np.sin(0.3)
    across = -(twigs[:, 0] - 10) * np.sin(0.3) + (twigs[:, 1] - 20) * np.cos(0.3)
    assert np.abs(across).max() < 1e-9
    assert np.corrcoef(along, twigs[:, 3])[0, 1] < -0.9
    assert len(frost._twigs(branch, 2.5, 0.4, 1.0, rng())) > 1.8 * len(twigs)


def test_a_pane_has_clear_and_frozen_places_and_a_blue_tint():
    pane = frost.pane((224, 300), 1.0, rng())
    assert 0.15 < pane.mean() < 0.6
    assert pane.std() > 0.1
    assert pane[..., 2].mean() > pane[..., 1].mean() > pane[..., 0].mean()
    assert not np.array_equal(pane, frost.pane((224, 300), 1.0, np.random.default_rng(2)))


def test_ice_grows_with_the_image():
    small, large = (frost.branches((side, side), side / 224, rng()) for side in (224, 448))
    assert large[0][:, 3].mean() == pytest.approx(2 * small[0][:, 3].mean())
    assert len(large[2]) == len(small[2])


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (17, 5), (31, 640)])
def test_every_size_can_freeze(shape):
    image = np.full((*shape, 3), 90, np.uint8)
    found = corrupt(image, CORRUPTIONS["frost"], 5)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
