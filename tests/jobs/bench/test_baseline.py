"""A recorded run is compared by ratios, on the same kind of machine only."""

from __future__ import annotations

import copy
import json

import pytest

from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.jobs.bench.baseline import check_machine, comparable, read_baseline, regressions

pytestmark = pytest.mark.fast

MACHINE = {"processor": "some cpu", "cores": 2, "gpus": []}
RUN = {
    "model": "tiny-fp32",
    "environment": MACHINE,
    "rows": [
        {"size": "64", "batch": 1, "contender": "torch", "times_slower_than_ort": [2.0, 1.9, 2.1]},
        {"size": "64", "batch": 1, "contender": "ort", "times_slower_than_ort": None},
    ],
}
HERE = [("64", 1, "torch"), ("64", 1, "ort")]


def _recorded(tmp_path, **changes):
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({**copy.deepcopy(RUN), **changes}))
    return read_baseline(path)


def _rows(ratio):
    return [{**RUN["rows"][0], "times_slower_than_ort": ratio}]


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
    found = regressions(_rows(ratio), _recorded(tmp_path))
    assert len(found) == expected
    assert all("torch at 64, batch 1" in str(entry) for entry in found)


def test_a_row_that_was_not_recorded_is_no_regression(tmp_path):
    row = {**RUN["rows"][0], "size": "96", "times_slower_than_ort": [0.1, 0.1, 0.1]}
    assert regressions([row], _recorded(tmp_path)) == []


@pytest.mark.parametrize(("key", "value"), [("processor", "other cpu"), ("cores", 4), ("gpus", ["NVIDIA X"])], ids=str)
def test_another_machine_is_refused_and_the_difference_named(tmp_path, key, value):
    baseline = _recorded(tmp_path, environment={**MACHINE, key: value})
    with pytest.raises(IncompatibleError, match="is not comparable") as caught:
        check_machine(baseline, MACHINE)
    assert f"{key} {value!r}, here {MACHINE[key]!r}" in str(caught.value)


def test_every_difference_is_named(tmp_path):
    baseline = _recorded(tmp_path, environment={"processor": "other cpu", "cores": 4, "gpus": []})
    with pytest.raises(IncompatibleError, match="processor 'other cpu', here 'some cpu'; cores 4, here 2"):
        check_machine(baseline, MACHINE)


def test_the_same_machine_passes(tmp_path):
    check_machine(_recorded(tmp_path), {**MACHINE, "tools": {"torch": "another"}})


def test_what_is_compared_is_known_before_it_is_measured(tmp_path):
    rows = [*RUN["rows"], {**RUN["rows"][0], "size": "96"}]
    common, left = comparable(_recorded(tmp_path, rows=rows), "tiny-fp32", HERE)
    assert common == [("64", 1, "torch")]
    assert left == [("96", 1, "torch")]


def test_another_model_is_refused(tmp_path):
    with pytest.raises(IncompatibleError, match="model 'tiny-fp32', here 'other'"):
        comparable(_recorded(tmp_path), "other", HERE)


@pytest.mark.parametrize("requested", [[], [("96", 1, "torch")], [("64", 2, "torch")], [("64", 1, "hf-ort")]], ids=str)
def test_a_baseline_without_a_common_row_is_a_bad_file_that_says_what_it_has(tmp_path, requested):
    with pytest.raises(BadFileError, match="no row in common with this run; it has torch at 64, batch 1"):
        comparable(_recorded(tmp_path), "tiny-fp32", requested)


DAMAGED = {
    "empty": "",
    "text": "not json",
    "a list": "[]",
    "an empty object": "{}",
    "no machine": '{"rows": [], "model": "x"}',
    "machine of text": '{"rows": [], "model": "x", "environment": "x"}',
    "rows of numbers": json.dumps({**RUN, "rows": [1]}),
    "a ratio of text": json.dumps({**RUN, "rows": [{**RUN["rows"][0], "times_slower_than_ort": "fast"}]}),
    "a ratio of two": json.dumps({**RUN, "rows": [{**RUN["rows"][0], "times_slower_than_ort": [2.0, 1.9]}]}),
    "a ratio outside": json.dumps({**RUN, "rows": [{**RUN["rows"][0], "times_slower_than_ort": [2.0, 2.1, 2.2]}]}),
    "not a number": json.dumps({**RUN, "rows": [{**RUN["rows"][0], "times_slower_than_ort": [float("nan")] * 3}]}),
    "deep": "[" * 100_000,
    "bytes": "\udcff",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_baseline_is_a_bad_file(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadFileError, match="is not a recorded benchmark"):
        read_baseline(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "a folder"])
def test_what_is_no_file_is_a_bad_file(tmp_path, make):
    make(tmp_path / "baseline.json")
    with pytest.raises(BadFileError, match=r"cannot be read: it (does not exist|is not a regular file)"):
        read_baseline(tmp_path / "baseline.json")
