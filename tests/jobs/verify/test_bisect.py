"""The first tensor that diverges, in execution order."""

from __future__ import annotations

import numpy as np
import pytest

from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.jobs.verify.bisect import first_divergence

pytestmark = pytest.mark.fast

TOLERANCE = Tolerance(max=1e-3, mean=1e-4, disagreement=0.0)
NAMES = [f"t{index}" for index in range(20)]
GOOD = np.linspace(0.0, 1.0, 12)


def _probe(wrong, asked=None):
    def probe(names):
        if asked is not None:
            asked.append(list(names))
        return {name: (GOOD + 0.1 * (name in wrong), GOOD) for name in names}

    return probe


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
def test_the_first_wrong_tensor_is_named_with_the_last_good_one(chunk):
    found = first_divergence(NAMES, _probe({"t7", "t8", "t12"}), TOLERANCE, chunk=chunk)
    assert (found.tensor, found.last_good) == ("t7", "t6")
    assert found.max == pytest.approx(0.1)


def test_an_error_that_cancels_downstream_is_still_found():
    assert first_divergence(NAMES, _probe({"t3"}), TOLERANCE).tensor == "t3"


def test_nothing_diverges_in_a_healthy_graph():
    assert first_divergence(NAMES, _probe(set()), TOLERANCE) is None


def test_the_scan_stops_at_the_chunk_with_the_error():
    asked = []
    first_divergence(NAMES, _probe({"t5"}, asked), TOLERANCE, chunk=4)
    assert asked == [NAMES[:4], NAMES[4:8]]


def test_constant_tensors_have_no_range_and_are_skipped():
    def probe(names):
        return {name: (np.ones(3), np.ones(3)) for name in names}

    assert first_divergence(NAMES, probe, TOLERANCE) is None


def test_another_shape_is_a_divergence():
    found = first_divergence(["a"], lambda _names: {"a": (GOOD[:5], GOOD)}, TOLERANCE)
    assert found.max == float("inf")
