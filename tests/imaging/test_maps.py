"""Raw outputs become maps of the image's size, by the task of the output."""

from dataclasses import replace

import numpy as np
import pytest
from support.faults.handmade import MODEL

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import MetricTail
from dpt_deploy.core.task import CANONICAL_DEPTH, DEPTH, LABELS, METRIC_DEPTH, SCORES
from dpt_deploy.imaging import resample
from dpt_deploy.imaging.maps import FocalLength, map_type, to_map

pytestmark = pytest.mark.fast

SIZE = Size(30, 50)
SCORES_OF_3 = np.random.default_rng(0).normal(size=(1, 3, 12, 20)).astype(np.float32)


def test_numbers_are_resized():
    found = to_map(DEPTH, SCORES_OF_3[:, 0], SIZE, MODEL)
    np.testing.assert_array_equal(found.values, resample.resize_bicubic(SCORES_OF_3[0, 0], SIZE))
    assert (found.num_classes, found.png_scale, found.values.dtype) == (0, 0.0, map_type(DEPTH))


@pytest.mark.parametrize("rule", resample.RESTORING)
def test_the_filter_is_that_of_the_image_rule(rule):
    depth = to_map(DEPTH, SCORES_OF_3[:, 0], SIZE, MODEL, rule).values
    scores = to_map(SCORES, SCORES_OF_3, SIZE, MODEL.with_classes(3), rule).values
    np.testing.assert_array_equal(depth, resample.restore(SCORES_OF_3[0, 0], SIZE, rule))
    np.testing.assert_array_equal(scores, resample.restore(SCORES_OF_3[0], SIZE, rule).argmax(axis=0) + 1)
    others = [resample.restore(SCORES_OF_3[0, 0], SIZE, other) for other in resample.RESTORING if other != rule]
    assert all(np.abs(depth - other).max() > 1e-2 for other in others)


def test_metres_carry_the_scale_of_their_png():
    metric = replace(MODEL, metric=MetricTail(1.0, 0.0, 256.0))
    assert to_map(METRIC_DEPTH, SCORES_OF_3[:, 0], SIZE, metric).png_scale == 256.0


def test_canonical_depth_becomes_metres_by_the_focal_length_of_the_network_s_input():
    """By hand: an image of 30 x 50 enters at 60 x 200; fx 100 and fy 90 are 400 and 180 there, 290 on average."""
    model = replace(MODEL, quantity="canonical depth", canonical_focal=300.0, png_scale=256.0)
    found = to_map(CANONICAL_DEPTH, SCORES_OF_3[:, 0], SIZE, model)
    assert (found.png_scale, found.task.unit) == (0.0, "")
    metres = found.in_metres(FocalLength(100.0, 90.0), Size(60, 200))
    assert (metres.task, metres.png_scale, metres.values.dtype) == (METRIC_DEPTH, 256.0, np.float32)
    np.testing.assert_allclose(metres.values, found.values * (290 / 300), rtol=1e-6)
    with pytest.raises(ValueError, match="no canonical depth"):
        metres.in_metres(FocalLength(100.0, 90.0), Size(60, 200))


def test_scores_and_labels_become_labels_that_count_from_one():
    model = MODEL.with_classes(3)
    scores = to_map(SCORES, SCORES_OF_3, SIZE, model)
    labels = to_map(LABELS, SCORES_OF_3.argmax(axis=1).astype(np.int64), SIZE, model)
    for found in (scores, labels):
        assert (found.num_classes, found.values.dtype, found.values.shape) == (3, np.uint16, (30, 50))
        assert set(np.unique(found.values)) == {1, 2, 3}
    assert np.mean(scores.values == labels.values) > 0.7
