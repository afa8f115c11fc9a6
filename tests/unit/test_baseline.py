"""A recorded run is compared by ratios, on the same kind of machine only."""

from __future__ import annotations

import copy
import json

import pytest

from dpt_deploy.bench.baseline import read_baseline, regressions
from dpt_deploy.core.errors import BadFileError, IncompatibleError

RUN = {
    "model": "tiny-fp32",
    "environment": {"processor": "some cpu", "cores": 2, "gpus": []},
    "rows": [
        {"size": "64", "batch": 1, "contender": "torch", "times_slower_than_ort": [2.0, 1.9, 2.1]},
        {"size": "64", "batch": 1, "contender": "ort", "times_slower_than_ort": None},
    ],
}


def _recorded(tmp_path, **changes):
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({**copy.deepcopy(RUN), **changes}))
    return read_baseline(path)


def _run(ratio):
    run = copy.deepcopy(RUN)
    run["rows"][0]["times_slower_than_ort"] = ratio
    return run


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        pytest.param([2.0, 1.9, 2.1], 0, id="the same"),
        pytest.param([2.5, 2.4, 2.6], 0, id="better"),
        pytest.param([1.85, 1.8, 1.92], 0, id="intervals overlap"),
        pytest.param([1.5, 1.4, 1.6], 1, id="worse by more than the interval"),
    ],
)
def test_a_ratio_below_the_recorded_interval_is_a_regression(tmp_path, ratio, expected):
    found = regressions(_run(ratio), _recorded(tmp_path))
    assert len(found) == expected
    assert all("torch at 64, batch 1" in str(entry) for entry in found)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"environment": {"processor": "other", "cores": 2, "gpus": []}}, id="processor"),
        pytest.param({"environment": {"processor": "some cpu", "cores": 4, "gpus": []}}, id="cores"),
        pytest.param({"model": "other"}, id="model"),
    ],
)
def test_another_machine_or_model_is_refused(tmp_path, changes):
    with pytest.raises(IncompatibleError, match="recorded elsewhere"):
        regressions(RUN, _recorded(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": []}', "not json"])
def test_a_damaged_baseline_is_a_bad_file(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match="cannot be read"):
        read_baseline(path)


def test_a_baseline_without_a_common_row_is_a_bad_file(tmp_path):
    other = [{"size": "96", "batch": 1, "contender": "torch", "times_slower_than_ort": [2.0, 1.9, 2.1]}]
    with pytest.raises(BadFileError, match="no row in common"):
        regressions(RUN, _recorded(tmp_path, rows=other))
