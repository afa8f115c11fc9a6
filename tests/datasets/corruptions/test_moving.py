"""Corruptions that move pixels: the field of SciPy's definition, exact views, truth that moves with the image."""

from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.base import OrdinalPair, Sample
from dpt_deploy.datasets.corruptions import moving
from dpt_deploy.datasets.corruptions.clean import CleanImage
from dpt_deploy.datasets.corruptions.registry import CORRUPTIONS, SEVERITIES, corrupt, corrupt_sample

MOVING = [each for each in CORRUPTIONS.values() if each.sources]
HEIGHT, WIDTH = 96, 128
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
LEVELS = (40 + COLUMNS).astype(np.uint8)  # a ramp, so that a place can be read from the image
RAMP = Sample(
    "ramp", np.repeat(LEVELS[..., None], 3, 2), np.ones((HEIGHT, WIDTH), bool), depth=(40 + COLUMNS).astype(np.float32)
)


def rng():
    return np.random.default_rng(1)


def clean_of(shape):
    return CleanImage(np.zeros((*shape, 3), np.float32))


def shift_of(corruption, severity, shape=(224, 224)):
    """Mean length of the movement in pixels."""
    moved = corruption.sources(clean_of(shape), rng(), severity) - np.mgrid[: shape[0], : shape[1]]
    return float(np.hypot(*moved).mean())


def disagreement(sample):
    """Largest difference between the image and its truth, in levels, where there is truth."""
    return float(np.abs(sample.image[..., 0] - sample.depth)[sample.valid].max())


@pytest.mark.parametrize("corruption", MOVING, ids=lambda each: each.name)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_truth_moves_with_the_image(corruption, severity):
    found = corrupt_sample(RAMP, corruption, severity)
    assert np.array_equal(found.image, corrupt(RAMP.image, corruption, severity, name="ramp"))
    assert disagreement(found) <= 2  # the truth is that of the nearest pixel, at most 0.71 away, and levels are rounded
    assert (found.depth[~found.valid & (found.depth == 0)] == 0).all()
    assert 0.5 < found.valid.mean() <= 1


@pytest.mark.parametrize("corruption", MOVING, ids=lambda each: each.name)
def test_a_truth_that_stays_is_noticed(corruption):
    planted = replace(RAMP, image=corrupt_sample(RAMP, corruption, 5).image)
    assert disagreement(planted) > 4


def test_a_truth_that_moves_the_other_way_is_noticed():
    corruption, clean = CORRUPTIONS["camera-roll"], clean_of((HEIGHT, WIDTH))
    there = corruption.sources(clean, rng(), 3)
    back = 2 * np.stack([ROWS, COLUMNS]) - there
    image = np.rint(moving.moved_image(RAMP.image.astype(np.float32), there)).astype(np.uint8)
    assert disagreement(replace(moving.moved_truth(RAMP, there), image=image)) <= 2
    assert disagreement(replace(moving.moved_truth(RAMP, back), image=image)) > 10


@pytest.mark.parametrize("corruption", MOVING, ids=lambda each: each.name)
def test_a_larger_severity_moves_farther_and_lengths_grow_with_the_image(corruption):
    assert (np.diff([shift_of(corruption, each) for each in SEVERITIES]) > 0).all()
    assert shift_of(corruption, 5, (448, 448)) == pytest.approx(2 * shift_of(corruption, 5), rel=0.15)


@pytest.mark.parametrize("side", [224, 448])
def test_the_elastic_field_is_that_of_scipy(side):
    ndimage = pytest.importorskip("scipy.ndimage")
    scale, points = side / 224, np.array([[1, 1], [1, -1], [-1, -1]]) * side / 3
    draws = rng()
    target = points + draws.uniform(-1, 1, (3, 2)) * 4.88 * scale
    noise = draws.uniform(-1, 1, (2, side, side))
    sigma, strength = 2.44 * scale, 0.12 * 244 * scale**2
    shift = [strength * ndimage.gaussian_filter(each, sigma, mode="nearest", truncate=3) for each in noise]
    forward = np.linalg.solve(np.column_stack([points, np.ones(3)]), target)
    place = np.mgrid[:side, :side] + shift - (side - 1) / 2 - forward[2][:, None, None]
    expected = np.einsum("ij,jhw->ihw", np.linalg.inv(forward[:2].T), place) + (side - 1) / 2
    found = moving.elastic_transform(clean_of((side, side)), rng(), 5)
    assert np.abs(found - expected).max() < 0.15 * scale  # the reach of the Gaussian is rounded otherwise
    assert np.std(shift) == pytest.approx(strength / (np.sqrt(12 * np.pi) * sigma), rel=0.1)


def test_a_roll_is_that_of_scipy_and_keeps_the_centre():
    ndimage = pytest.importorskip("scipy.ndimage")
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((65, 65)), 3).astype(np.float32)
    pixels = np.repeat(smooth[..., None], 3, 2)
    field = moving.camera_roll(clean_of((65, 65)), rng(), 2)
    turned = moving.moved_image(pixels, field)[16:49, 16:49, 0]
    either = [ndimage.rotate(smooth, angle, reshape=False, order=1)[16:49, 16:49] for angle in (12, -12)]
    assert min(np.abs(turned - each).max() for each in either) < 2e-3
    assert np.allclose(field[:, 32, 32], 32)


def test_half_the_field_of_view_is_the_middle_enlarged_twice():
    field = moving.field_of_view(clean_of((8, 8)), rng(), 5)
    assert field[0, :, 0].tolist() == [1.75 + 0.5 * each for each in range(8)]
    assert np.array_equal(field[1], field[0].T)


def test_a_flat_scene_seen_through_a_longer_lens_is_rendered_the_same():
    """A slanted plane, 1 / depth linear in the image: rendering with half the field gives the moved truth."""

    def inverse(rows, columns):
        return 0.5 + 0.002 * (rows - 47.5) + 0.001 * (columns - 63.5)

    sample = replace(RAMP, depth=1 / inverse(ROWS, COLUMNS).astype(np.float32))
    found = corrupt_sample(sample, CORRUPTIONS["field-of-view"], 5)
    expected = 1 / inverse(47.5 + (ROWS - 47.5) / 2, 63.5 + (COLUMNS - 63.5) / 2)
    assert np.abs(found.depth / expected - 1).max() < 0.005
    assert np.abs(sample.depth / expected - 1).max() > 0.1


def test_labels_and_points_move_too():
    labels = np.where(COLUMNS < 64, 1, 2).astype(np.uint8)
    sample = replace(RAMP, depth=None, labels=labels)
    found = corrupt_sample(sample, CORRUPTIONS["camera-roll"], 5)
    seen = np.abs(found.image[..., 0].astype(int) - 104) > 1
    assert (found.labels == np.where(found.image[..., 0] < 104, 1, 2))[found.valid & seen].all()
    assert set(np.unique(found.labels[found.valid])) == {1, 2}
    pairs = (OrdinalPair((40, 90), (50, 50)), OrdinalPair((0, 0), (50, 50)))
    moved = corrupt_sample(replace(RAMP, depth=None, pairs=pairs), CORRUPTIONS["field-of-view"], 5).pairs
    assert len(moved) == 1
    assert np.abs(np.array(moved[0].far) - (32.5, 116.5)).max() <= 1


def test_unknown_depth_stays_unknown_and_severity_0_is_the_sample():
    known = (COLUMNS % 2 == 0) & (ROWS % 2 == 0)
    sample = replace(RAMP, valid=known, depth=np.where(known, RAMP.depth, np.float32(0)))
    found = corrupt_sample(sample, CORRUPTIONS["elastic-transform"], 4)
    assert (found.depth[found.valid] > 0).all()
    assert found.valid.mean() == pytest.approx(0.25, abs=0.03)
    assert corrupt_sample(sample, CORRUPTIONS["elastic-transform"], 0) is sample


def test_truth_that_leaves_the_image_is_a_clear_error():
    border = replace(RAMP, valid=ROWS < 3)
    with pytest.raises(BadFileError, match="moves all ground truth out of ramp"):
        corrupt_sample(border, CORRUPTIONS["field-of-view"], 5)


@pytest.mark.parametrize("corruption", MOVING, ids=lambda each: each.name)
@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (17, 5)])
def test_every_size_can_be_moved(corruption, shape):
    found = corrupt(np.full((*shape, 3), 90, np.uint8), corruption, 5)
    assert (found.shape, np.unique(found).tolist()) == ((*shape, 3), [90])
