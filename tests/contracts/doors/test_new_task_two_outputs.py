"""A new task is one record, and a model may return several outputs for every command (docs/how-to/new-task.md)."""

import json

import numpy as np
import pytest
from support.faults.calling import fine
from support.two_outputs import CONFIDENCE, CONFIDENCE_NAME, DEPTH_NAME, two_outputs

from dpt_deploy.cli import call
from dpt_deploy.core.task import TASKS
from dpt_deploy.imaging.files import read_image, read_pfm
from dpt_deploy.jobs.predict.load import load

pytestmark = pytest.mark.needs("onnx", "onnxruntime", "cv2")

PHOTOGRAPH = "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)


def test_inspect_lists_both_outputs(capsys, tmp_path):
    found = fine(capsys, "inspect", two_outputs(tmp_path).path, "--json")
    outputs = json.loads(found)["sidecar"]["outputs"]
    assert [(output["name"], output["task"]) for output in outputs] == [
        (DEPTH_NAME, "depth"),
        (CONFIDENCE_NAME, "confidence"),
    ]


def test_verify_compares_each_output_by_its_own_task(capsys, tmp_path):
    found = json.loads(fine(capsys, "verify", two_outputs(tmp_path).path, "--golden", "--json"))
    assert [(case["output"], case["passed"]) for case in found["cases"]] == [
        (DEPTH_NAME, True),
        (CONFIDENCE_NAME, True),
    ]
    assert [case["abs_rel"] is None for case in found["cases"]] == [False, True]  # a drift of depth alone
    assert found["tolerances"].keys() == {DEPTH_NAME, CONFIDENCE_NAME}


def test_the_table_of_verify_names_the_outputs(capsys, tmp_path):
    found = fine(capsys, "verify", two_outputs(tmp_path).path, "--golden")
    assert f"64x96, {DEPTH_NAME}" in found
    assert f"64x96, {CONFIDENCE_NAME}" in found


@pytest.mark.parametrize("wrong", [DEPTH_NAME, CONFIDENCE_NAME])
def test_verify_names_the_output_that_is_wrong(wrong, capsys, tmp_path):
    assert call(["verify", str(two_outputs(tmp_path, spoiled=wrong).path), "--golden"]) == 5
    assert f"in output '{wrong}'" in capsys.readouterr().err


def test_run_writes_every_output_in_the_formats_of_its_task(capsys, tmp_path):
    artifact = two_outputs(tmp_path)
    fine(capsys, "run", artifact.path, PHOTOGRAPH, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"coffee-{DEPTH_NAME}.png",
        f"coffee-{DEPTH_NAME}.pfm",
        f"coffee-{DEPTH_NAME}-color.png",
        f"coffee-{CONFIDENCE_NAME}.pfm",
        f"coffee-{CONFIDENCE_NAME}-color.png",
    }
    with load(artifact.path) as predictor:
        prediction = predictor(read_image(PHOTOGRAPH))
    for name, found in prediction.maps.items():
        np.testing.assert_array_equal(read_pfm(tmp_path / "out" / f"coffee-{name}.pfm"), found.values)
    np.testing.assert_array_equal(prediction.depth, prediction.maps[DEPTH_NAME].values)
    assert prediction.labels is None


@pytest.mark.needs("tensorrt_rtx")
def test_an_engine_has_both_outputs(capsys, tmp_path):
    options = ("--res", "64x96", "--batch", "2", "--library", "tensorrt_rtx")
    fine(capsys, "build", two_outputs(tmp_path).path, *options, "-o", tmp_path)
    outputs = json.loads(fine(capsys, "inspect", tmp_path / "two-fp32.plan", "--json"))["sidecar"]["outputs"]
    assert [output["name"] for output in outputs] == [DEPTH_NAME, CONFIDENCE_NAME]


def test_a_task_that_is_not_registered_is_refused_by_name(monkeypatch, tmp_path):
    path = two_outputs(tmp_path).path
    monkeypatch.delitem(TASKS, CONFIDENCE.name)
    assert call(["inspect", str(path)]) == 4
