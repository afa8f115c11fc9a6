"""A joint head is a task and a module: its network has two outputs for every command (docs/how-to/new-task.md)."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.joint_head import ConfidenceHead
from support.paths import ROOT
from support.tiny import tiny_path
from support.training import write_training
from support.two_outputs import CONFIDENCE, CONFIDENCE_NAME, DEPTH_NAME

import dpt_deploy
from dpt_deploy.artifact.store import open_artifact, read_sidecar
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.task import TASKS
from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.jobs.train.config import read_training
from dpt_deploy.jobs.train.train import train_model
from dpt_deploy.model.heads import JOINT_HEADS

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
RECIPE = f"""
base = "{tiny_path("tiny-vit")}"
description = "depth and its confidence"
[model]
joint = ["confidence"]
"""


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)
    monkeypatch.setitem(JOINT_HEADS, CONFIDENCE.name, ConfidenceHead)


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "joint.toml"
    path.write_text(RECIPE)
    return str(path)


def export(recipe, folder, *more):
    return ("export", "--backbone", recipe, "--weights", "random", "-o", folder, *more)


@pytest.mark.usefixtures("registered")
def test_export_verify_and_run(recipe, tmp_path, capsys):
    path, maps = tmp_path / "joint-fp32.onnx", tmp_path / "maps"
    fine(capsys, *export(recipe, tmp_path))
    assert [(each.name, each.task) for each in read_sidecar(path).outputs] == [
        (DEPTH_NAME, "depth"),
        (CONFIDENCE_NAME, "confidence"),
    ]
    fine(capsys, *export(recipe, tmp_path))  # up to date
    for options in (("--res", "64x96", "--batch", "2"), ("--golden",)):
        cases = json.loads(fine(capsys, "verify", path, *options, "--json"))["cases"]
        assert [(case["output"], case["passed"]) for case in cases] == [(DEPTH_NAME, True), (CONFIDENCE_NAME, True)]
    fine(capsys, "run", path, PHOTOGRAPH, "--size", "64", "-o", maps)
    assert read_pfm(maps / f"coffee-{CONFIDENCE_NAME}.pfm").std() > 0


@pytest.mark.usefixtures("registered")
def test_half_precision_records_the_type_loss_of_each_output(recipe, tmp_path, capsys):
    fine(capsys, *export(recipe, tmp_path, "--precision", "fp16", "--res", "64x96"))
    sidecar = open_artifact(tmp_path / "joint-fp16.onnx").sidecar
    assert sidecar.parity.verified
    assert all(output.type_loss.max > 0 for output in sidecar.outputs)


@pytest.mark.usefixtures("registered")
def test_the_joint_head_leaves_the_depth_as_it_is(recipe):
    alone, both = (dpt_deploy.create_model(name, weights="random") for name in (tiny_path("tiny-vit"), recipe))
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    depth, confidence = both(both.head.conv1.weight.new_tensor(image))
    assert depth.equal(alone(depth.new_tensor(image)))
    assert confidence.shape == depth.shape


@pytest.mark.usefixtures("registered")
def test_labels_need_a_single_output(recipe, tmp_path, capsys):
    options = ("--task", "segmentation", "--output", "labels")
    assert "one output" in complaint(capsys, 2, *export(recipe, tmp_path / "out", *options))


@pytest.mark.usefixtures("registered")
def test_training_refuses_it(recipe, tmp_path):
    config = replace(read_training(write_training(tmp_path)), backbone=recipe)
    with pytest.raises(UsageError, match="has joint heads"):
        train_model(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_record_is_refused(recipe, tmp_path, capsys):
    said = complaint(capsys, 4, *export(recipe, tmp_path / "out"))
    assert "joint task 'confidence' is unknown" in said


def test_a_task_without_a_head_is_refused(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)
    said = complaint(capsys, 4, *export(recipe, tmp_path / "out"))
    assert "which no head computes" in said
