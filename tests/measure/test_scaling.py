"""Growth of time and arithmetic, worked out by hand."""

from __future__ import annotations

import pytest

from dpt_deploy.measure.scaling import scaling

pytestmark = pytest.mark.fast


def row(candidate, size, gflop, time, batch=1):
    return {"contender": candidate, "batch": batch, "size": size, "gflop": gflop, "p50_ms": time}


def test_growth_is_over_the_smallest_size_of_the_same_candidate_and_batch():
    rows = [row("ort", "96", 9.0, 30.0), row("torch", "64", 4.0, 20.0), row("ort", "64", 4.0, 10.0)]
    rows += [row("torch", "96", 9.0, 40.0), row("ort", "64", 8.0, 18.0, batch=2), row("ort", "96", 18.0, 36.0, batch=2)]
    found = {(step.candidate, step.batch, step.size): (step.operations, step.time) for step in scaling(rows)}
    assert found == {
        ("ort", 1, "64"): (1.0, 1.0),
        ("ort", 1, "96"): (2.25, 3.0),
        ("torch", 1, "64"): (1.0, 1.0),
        ("torch", 1, "96"): (2.25, 2.0),
        ("ort", 2, "64"): (1.0, 1.0),
        ("ort", 2, "96"): (2.25, 2.0),
    }


def test_one_size_has_no_growth():
    assert scaling([row("ort", "64", 4.0, 10.0), row("torch", "64", 4.0, 20.0)]) == []
