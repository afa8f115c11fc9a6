"""Alignment, depth errors, crops and the order of points: by hand, and by other means."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from dpt_deploy.measure import metrics

pytestmark = pytest.mark.fast

EVERYWHERE = np.ones(4, bool)
TARGET = np.array([1.0, 2.0, 4.0, 8.0])


def scene(seed, shape=(30, 40)):
    """A prediction, a depth map in metres with holes, and its mask."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 9.0, shape)
    prediction = 800 / depth + 200 + rng.normal(0, 30, shape)
    return prediction, depth, rng.random(shape) < 0.7


# --- alignment --------------------------------------------------------------------------------------------------------


def test_fit_by_hand():
    """Through (0, 1), (1, 3), (2, 2): slope 1/2, intercept 3/2; the fourth point does not count."""
    prediction, target = np.array([0.0, 1.0, 2.0, 99.0]), np.array([1.0, 3.0, 2.0, -99.0])
    assert metrics.fit_scale_shift(prediction, target, np.array([True, True, True, False])) == pytest.approx((0.5, 1.5))


@pytest.mark.parametrize("seed", range(3))
def test_fit_is_least_squares(seed):
    prediction, target, valid = scene(seed)
    design = np.stack([prediction[valid], np.ones(valid.sum())], axis=1)
    solution = np.linalg.lstsq(design, target[valid], rcond=None)[0]
    assert metrics.fit_scale_shift(prediction, target, valid) == pytest.approx(tuple(solution), rel=1e-9)


def test_fit_in_float16_counts_in_float64():
    """Values whose squares overflow float16 and whose sum overflows float32's 24 bits."""
    prediction = np.linspace(1000, 3000, 100_000).astype(np.float16)
    scale, shift = metrics.fit_scale_shift(prediction, 2.0 * prediction.astype(float) + 5, np.ones(100_000, bool))
    assert (scale, shift) == pytest.approx((2.0, 5.0), rel=1e-9)


@pytest.mark.parametrize("flat", [0.0, 0.1, 3000.0])
def test_a_flat_prediction_fits_with_zeros(flat):
    """0.1 is no sum of powers of two: the determinant, computed, would not be zero."""
    values = np.full(1001, flat)
    assert metrics.fit_scale_shift(values, np.linspace(1, 2, 1001), np.ones(1001, bool)) == (0.0, 0.0)


def test_nothing_valid_fits_with_zeros():
    assert metrics.fit_scale_shift(TARGET, TARGET, ~EVERYWHERE) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_fits_with_nan_where_it_counts(bad):
    prediction = np.array([1.0, 2.0, 3.0, bad])
    assert np.isnan(metrics.fit_scale_shift(prediction, TARGET, EVERYWHERE)).all()
    assert np.isfinite(metrics.fit_scale_shift(prediction, TARGET, np.array([True, True, True, False]))).all()


def test_zero_shot_depth_undoes_scale_and_shift():
    depth = metrics.zero_shot_depth(7.0 / TARGET - 3.0, TARGET, EVERYWHERE, cap=100.0)
    assert depth == pytest.approx(TARGET)


def test_zero_shot_depth_ends_at_the_cap():
    """Aligned inverse depth 1, 1/2, 1/4 and, beyond the mask, -1/2: negative, so at the cap."""
    prediction, valid = np.array([1.0, 0.5, 0.25, -0.5]), np.array([True, True, True, False])
    assert metrics.zero_shot_depth(prediction, TARGET, valid, cap=3.0) == pytest.approx([1, 2, 3, 3])


def test_zero_shot_depth_of_a_flat_prediction_is_the_cap():
    assert metrics.zero_shot_depth(np.ones(4), TARGET, EVERYWHERE, cap=10.0).tolist() == [10.0] * 4


def test_zero_shot_depth_of_a_broken_prediction_is_no_number():
    prediction = np.array([1.0, np.inf, 2.0, 3.0])
    assert np.isnan(metrics.zero_shot_depth(prediction, TARGET, EVERYWHERE, cap=10.0)).all()
    elsewhere = metrics.zero_shot_depth(prediction, TARGET, np.array([True, False, True, True]), cap=10.0)
    assert np.isfinite(elsewhere[[0, 2, 3]]).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_zero_shot_depth_refuses_a_valid_depth_that_is_none(bad):
    depth = np.array([1.0, 2.0, 4.0, bad])
    with pytest.raises(ValueError, match="not positive"):
        metrics.zero_shot_depth(TARGET, depth, EVERYWHERE, cap=10.0)
    assert metrics.zero_shot_depth(TARGET, depth, depth > 0, cap=10.0).shape == (4,)


# --- the plane --------------------------------------------------------------------------------------------------------


def test_a_plane_in_inverse_depth_is_found_exactly():
    y, x = np.mgrid[0:12, 0:17]
    depth = 1.0 / (0.02 * x - 0.01 * y + 0.3)
    assert metrics.plane_depth(depth, np.ones(depth.shape, bool), cap=80.0) == pytest.approx(depth)


@pytest.mark.parametrize("seed", range(3))
def test_the_plane_is_least_squares(seed):
    _, depth, valid = scene(seed)
    y, x = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    design = np.stack([x, y, np.ones(depth.shape)], axis=-1)
    solution = np.linalg.lstsq(design[valid], 1 / depth[valid], rcond=None)[0]
    assert metrics.plane_depth(depth, valid, cap=10.0) == pytest.approx(1 / np.maximum(design @ solution, 0.1))


def test_the_plane_ends_at_the_cap():
    depth = np.tile(1.0 / np.array([0.4, 0.3, 0.2, 0.1]), (3, 1))
    valid = np.ones(depth.shape, bool)
    valid[:, 3] = False
    assert metrics.plane_depth(depth, valid, cap=6.0)[0] == pytest.approx([2.5, 10 / 3, 5.0, 6.0])


@pytest.mark.parametrize("where", [np.s_[2:3, 1:2], np.s_[:, 1]], ids=["a point", "a line"])
def test_a_plane_through_too_little_is_one_that_fits(where):
    depth, valid = np.full((5, 6), 4.0), np.zeros((5, 6), bool)
    valid[where] = True
    assert metrics.plane_depth(depth, valid, cap=10.0)[valid] == pytest.approx(4.0)


def test_the_plane_refuses_a_valid_depth_that_is_none():
    with pytest.raises(ValueError, match="not positive"):
        metrics.plane_depth(np.zeros((2, 2)), np.ones((2, 2), bool), cap=10.0)


# --- depth errors -----------------------------------------------------------------------------------------------------


def test_depth_errors_by_hand():
    """Ratios 1, 1.5, 2, 1; errors 0, 1, -2, 0 m."""
    found = metrics.depth_metrics(np.array([1.0, 3.0, 2.0, 8.0]), TARGET, EVERYWHERE)
    logs = np.array([0.0, math.log(1.5), -math.log(2), 0.0])
    assert asdict(found) == pytest.approx(
        {
            "abs_rel": (0.5 + 0.5) / 4,
            "sq_rel": (1 / 2 + 4 / 4) / 4,
            "rmse": math.sqrt(5 / 4),
            "rmse_log": math.sqrt((logs**2).sum() / 4),
            "log10": (math.log10(1.5) + math.log10(2)) / 4,
            "silog": math.sqrt((logs**2).mean() - logs.mean() ** 2),
            "delta1": 0.5,  # 1.25
            "delta2": 0.75,  # 1.5625
            "delta3": 0.75,  # 1.953125
        }
    )


def test_silog_does_not_see_a_scale():
    found = metrics.depth_metrics(1.5 * TARGET, TARGET, EVERYWHERE)
    assert found.silog == pytest.approx(0.0, abs=1e-12)
    assert found.rmse_log == pytest.approx(math.log(1.5))


def test_a_ratio_of_exactly_the_bound_is_outside():
    assert metrics.depth_metrics(np.array([1.25]), np.array([1.0]), np.array([True])).delta1 == 0.0


def test_depth_errors_count_valid_pixels_only():
    prediction, target = np.array([1.0, 2.0, 4.0, np.nan]), np.array([1.0, 2.0, 4.0, -1.0])
    found = metrics.depth_metrics(prediction, target, np.array([True, True, True, False]))
    assert (found.abs_rel, found.delta1) == (0.0, 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_what_is_no_depth_is_infinitely_wrong(bad):
    found = metrics.depth_metrics(np.array([1.0, 2.0, 4.0, bad]), TARGET, EVERYWHERE)
    assert set(asdict(found).values()) == {np.inf, 0.0}
    assert (found.abs_rel, found.silog, found.delta1, found.delta3) == (np.inf, np.inf, 0.0, 0.0)


def test_depth_errors_refuse_what_cannot_be_measured():
    for target, valid in ((TARGET, ~EVERYWHERE), (np.zeros(4), EVERYWHERE)):
        with pytest.raises(ValueError, match="valid"):
            metrics.depth_metrics(TARGET, target, valid)


# --- crops ------------------------------------------------------------------------------------------------------------


def test_gargs_crop():
    """Crop of the most common frame, as the papers quote it: rows 153..370, columns 44..1196."""
    assert metrics.evaluation_crop("garg", 375, 1242) == np.s_[153:371, 44:1197]


def test_eigens_crop():
    assert metrics.evaluation_crop("eigen", 480, 640) == np.s_[45:471, 41:601]
    with pytest.raises(ValueError, match="480x640, not 640x480"):
        metrics.evaluation_crop("eigen", 640, 480)


def test_no_crop_is_everything():
    assert np.ones((3, 4))[metrics.evaluation_crop("none", 3, 4)].shape == (3, 4)


# --- order of points --------------------------------------------------------------------------------------------------


def test_whdr_by_hand():
    """Right, wrong, a tie, not a number: three of four disagree."""
    inverse = np.array([[1.0, 2.0], [2.0, np.nan]])
    far, near = np.array([[0, 0], [0, 1], [0, 1], [1, 1]]), np.array([[0, 1], [0, 0], [1, 0], [0, 0]])
    assert metrics.whdr(inverse, far, near) == 0.75
    assert metrics.whdr(inverse, far[:1], near[:1]) == 0.0
    assert metrics.whdr(-inverse, far[:1], near[:1]) == 1.0


# --- segmentation -----------------------------------------------------------------------------------------------------

LABELS = np.array([[1, 1, 2], [2, 3, 0]])


def test_segmentation_by_hand():
    """Class 1: one of two found, union 2. Class 2: both found, union 3. Class 3: missed. The 0 is not asked."""
    counts = metrics.segmentation_counts(np.array([[1, 2, 2], [2, 0, 3]]), LABELS, 4)
    assert counts.pixel_accuracy == pytest.approx(3 / 5)
    assert counts.mean_iou == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_a_class_that_is_only_predicted_counts_as_missed():
    counts = metrics.segmentation_counts(np.array([[1, 4, 2], [2, 3, 3]]), LABELS, 4)
    assert counts.mean_iou == pytest.approx((1 / 2 + 1 + 1 + 0) / 4)


@pytest.mark.parametrize("seed", range(3))
def test_segmentation_summed_is_the_whole(seed):
    """Against a confusion matrix over all images at once."""
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 6, (5, 20, 30)), rng.integers(1, 6, (5, 20, 30))
    total, *rest = (metrics.segmentation_counts(p, t, 5) for p, t in zip(predictions, labels, strict=True))
    for counts in rest:
        total = total + counts
    confusion = np.histogram2d(labels[labels > 0], predictions[labels > 0], bins=5, range=((1, 6), (1, 6)))[0]
    right, union = np.diag(confusion), confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    assert total.pixel_accuracy == pytest.approx(right.sum() / confusion.sum())
    assert total.mean_iou == pytest.approx((right / union).mean())


def test_labels_of_bytes_do_not_overflow():
    labels = np.full((400, 400), 150, np.uint8)
    counts = metrics.segmentation_counts(labels.astype(np.uint16), labels, 150)
    assert counts.intersection[149] == 160_000
    assert (counts.pixel_accuracy, counts.mean_iou) == (1.0, 1.0)


def test_nothing_labelled_is_no_number():
    counts = metrics.segmentation_counts(np.ones((2, 3), int), np.zeros((2, 3), int), 4)
    assert np.isnan([counts.pixel_accuracy, counts.mean_iou]).all()


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (np.ones((2, 3), int), np.ones((3, 2), int), r"\(2, 3\), the labels are \(3, 2\)"),
        (np.full((2, 3), 5), np.ones((2, 3), int), "outside 0..4"),
        (np.ones((2, 3), int), np.full((2, 3), 255), "outside 0..4"),
        (np.full((2, 3), -1), np.ones((2, 3), int), "outside 0..4"),
    ],
    ids=["shapes", "prediction too large", "label too large", "negative"],
)
def test_segmentation_refuses(prediction, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.segmentation_counts(prediction, labels, 4)
