"""Sidecars of format 1, as that version wrote them, are read as format 2."""

import json

import pytest
from support.paths import TESTS

from dpt_deploy.artifact.records import TYPE_LOSS_TIMES
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.upgrade import FORMAT, upgraded

pytestmark = pytest.mark.fast

FOLDER = TESTS / "golden" / "sidecars_format_1"
TASKS = {
    "tiny-fp32.onnx": "depth",
    "tiny-metric-fp32.onnx": "metric-depth",
    "tiny-seg-seg7-fp32-labels.onnx": "labels",
    "tiny-vit-fp16.onnx": "depth",
    "tiny-vit-fp32.plan": "depth",
    "tiny-vit-int8.onnx": "depth",
}


def text_of(name):
    return (FOLDER / f"{name}.json").read_text()


def test_every_fixture_is_tried():
    assert sorted(f"{name}.json" for name in TASKS) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize(("name", "task"), TASKS.items(), ids=TASKS)
def test_a_sidecar_of_format_1_is_read(name, task):
    old, found = json.loads(text_of(name)), Sidecar.from_json(text_of(name))
    (output,) = found.outputs
    assert (old["format"], found.format) == (1, FORMAT)
    assert (output.task, output.name) == (task, old["outputs"][0]["name"])
    assert output.tolerance.max == old["tolerance"]["max"]
    assert Sidecar.from_json(found.to_json()) == found


def test_type_loss_and_parity_belong_to_the_output():
    old, found = json.loads(text_of("tiny-vit-fp16.onnx")), Sidecar.from_json(text_of("tiny-vit-fp16.onnx"))
    (output,) = found.outputs
    assert output.type_loss.max == old["type_loss"]["max"]
    assert output.allowed.mean == max(output.tolerance.mean, TYPE_LOSS_TIMES * output.type_loss.mean)
    assert [case.output for case in found.parity.cases] == [output.name]
    assert found.parity.tolerances[output.name].max == old["parity"]["tolerance"]["max"]


def test_records_of_an_engine_and_of_8_bits_are_kept():
    assert Sidecar.from_json(text_of("tiny-vit-fp32.plan")).engine.library == "tensorrt_rtx"
    assert Sidecar.from_json(text_of("tiny-vit-int8.onnx")).quantisation.twin == "tiny-vit-int8-cpu.onnx"


DAMAGE = {
    "two outputs": (lambda d: d.update(outputs=2 * d["outputs"]), "format 1 has one output"),
    "no output": (lambda d: d.update(outputs=5), "format 1 has one output"),
    "output kind": (lambda d: d.update(output_kind="poetry"), "output_kind is 'poetry'"),
    "no tolerance": (lambda d: d.pop("tolerance"), "tolerance is missing"),
    "tolerance": (lambda d: d["tolerance"].update(max=None), r"outputs\[0\].tolerance.max is None"),
    "cases": (lambda d: d["parity"].update(cases=5), "parity.cases is 5"),
    "case": (lambda d: d["parity"].update(cases=[5]), r"parity.cases\[0\] is 5"),
    "parity's tolerance": (lambda d: d["parity"].pop("tolerance"), "parity.tolerances.predicted_depth is None"),
}


@pytest.mark.parametrize(("damage", "match"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_one_is_refused(damage, match):
    data = json.loads(text_of("tiny-fp32.onnx"))
    damage(data)
    with pytest.raises(ValueError, match=match):
        Sidecar.from_json(json.dumps(data))


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="format is 3; this program reads 1 to 2"):
        upgraded({"format": 3})
