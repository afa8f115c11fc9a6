"""The numbers that say how close two outputs are."""

from __future__ import annotations

import numpy as np
import pytest

from dpt_deploy.measure import metrics

pytestmark = pytest.mark.fast

REFERENCE = np.array([[1.0, 2.0], [3.0, 5.0]])


def test_range_error_is_relative_to_the_span():
    largest, mean = metrics.range_error(REFERENCE + np.array([[0.0, 0.4], [0.0, 0.0]]), REFERENCE)
    assert largest == pytest.approx(0.1)
    assert mean == pytest.approx(0.025)
    assert metrics.range_error(REFERENCE, REFERENCE) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_is_infinitely_wrong(bad):
    candidate = REFERENCE.copy()
    candidate[0, 0] = bad
    assert metrics.range_error(candidate, REFERENCE) == (np.inf, np.inf)


def test_a_flat_reference_agrees_only_with_itself():
    flat = np.full((2, 2), 3.0)
    assert metrics.range_error(flat, flat) == (0.0, 0.0)
    assert metrics.range_error(flat + 1e-9, flat) == (np.inf, np.inf)


def test_alignment_undoes_any_scale_and_shift_and_nothing_else():
    assert metrics.aligned_abs_rel(3.0 * REFERENCE - 7.0, REFERENCE) == pytest.approx(0.0, abs=1e-12)
    assert metrics.aligned_abs_rel(REFERENCE**2, REFERENCE) > 0.01


def test_alignment_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=50), rng.normal(size=50)
    design = np.stack([prediction, np.ones(50)], axis=1)
    solution = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    assert np.allclose(metrics.align_affine(prediction, target), solution)


def test_abs_rel_leaves_out_pixels_without_depth():
    assert metrics.abs_rel(np.array([1.1, 9.0]), np.array([1.0, 0.0])) == pytest.approx(0.1)
    assert np.isnan(metrics.abs_rel(np.ones(2), np.zeros(2)))


def test_pixel_agreement_of_labels_and_logits():
    labels = np.array([[[0, 1], [2, 1]]])
    logits = np.eye(3)[labels].transpose(0, 3, 1, 2)
    assert metrics.pixel_agreement(logits, logits * 2) == 1.0
    assert metrics.pixel_agreement(labels, np.array([[[0, 1], [2, 2]]])) == 0.75
