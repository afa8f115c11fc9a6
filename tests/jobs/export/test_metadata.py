"""A file alone says what it is, and ONNX's own tools read it to the end."""

import json
from dataclasses import replace

import onnx
import pytest
from onnx import shape_inference
from support.tiny import exported, tiny_recipe

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.artifact.store import sidecar_path
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.export.metadata import PREFIX, metadata_of
from dpt_deploy.jobs.export.request import ExportRequest

TRAINED = WeightsSource("file", path="/data/dpt.pt", sha256="ab", licence="MIT")


def facts(**options):
    found = metadata_of(ExportRequest(tiny_recipe("tiny-vit"), **options), TRAINED)
    return {key.removeprefix(PREFIX): value for key, value in found.items()}


@pytest.mark.fast
def test_the_facts_are_those_of_the_recipe_and_the_weights():
    found = facts(precision="fp16")
    assert (found["name"], found["precision"]) == ("tiny-vit", "fp16")
    assert found["image.mean"] == "0.5 0.5 0.5"
    assert found["image.multiple_of"] == "32"
    assert found["output.predicted_depth"] == "inverse depth without scale and shift, larger is nearer"
    assert (found["weights"], found["weights.licence"]) == ("dpt.pt", "MIT")
    assert "someone" not in json.dumps(found)


@pytest.mark.fast
def test_what_the_graph_does_itself_is_said():
    assert "normalised inside" in facts(input_kind="uint8")["image.input"]
    metric = metadata_of(ExportRequest(tiny_recipe("tiny-metric")), replace(TRAINED, licence=""))
    assert metric[f"{PREFIX}output.predicted_depth"] == "metres"
    assert f"{PREFIX}weights.licence" not in metric


@pytest.mark.fast
def test_every_quantity_is_named():
    found = metadata_of(ExportRequest(load_recipe("da3-metric")), TRAINED)
    assert found[f"{PREFIX}output.predicted_depth"].startswith("canonical depth; metres after")
    assert found[f"{PREFIX}output.sky"] == "sky, about 0 on the ground and 1 in the sky"
    mono = metadata_of(ExportRequest(load_recipe("da3-mono", task="depth")), TRAINED)
    assert mono[f"{PREFIX}output.predicted_depth"] == "relative depth without scale and shift, larger is farther"


VARIANTS = {
    "fp32": {},
    "static": {"static": Size(64, 96)},
    "uint8": {"input_kind": "uint8"},
    "opset 20": {"opset": 20},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_file_of_a_hybrid_is_read_by_strict_inference(options):
    artifact = exported("tiny-hybrid", **options)
    twin = artifact.sidecar.quantisation.twin if artifact.sidecar.quantisation else artifact.path.name
    for path in {artifact.path, artifact.path.with_name(twin)}:
        model = onnx.load(path)
        found = {entry.key.removeprefix(PREFIX): entry.value for entry in model.metadata_props}
        assert found["precision"] == ("int8-cpu" if "int8-cpu" in path.name else artifact.sidecar.precision)
        assert found["sidecar"] == sidecar_path(path).name
        assert found["weights"].startswith("random")
        inferred = shape_inference.infer_shapes(model, strict_mode=True)
        typed = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output)}
        assert {name for node in model.graph.node for name in node.output if name} <= typed
        onnx.checker.check_model(model, full_check=True)
