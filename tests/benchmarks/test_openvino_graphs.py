"""The benchmark of OpenVINO's graphs: the two differ in what they were compiled for, and kinds of operators add up."""

import pytest
from support.scripts import load_script
from support.tiny import exported

pytestmark = pytest.mark.needs("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def script():
    return load_script("openvino_graphs")


def test_one_graph_is_for_one_size_and_the_other_for_any(script):
    path = exported("tiny-vit").path
    session, said = script.timed(path, "f32", script.inputs_of(path, 64), 0.001)
    assert said == {"one size": "one size", "any size": "any size"}
    assert set(session.timings) == {"one size", "any size"}


def test_a_profile_is_by_kinds(script):
    path = exported("tiny-vit").path
    found = script.profile(path, "f32", script.inputs_of(path, 64))
    assert {"linear layers", "attention", "convolutions", "small operators"} <= set(found)
    assert set(found) <= {*script.KINDS, "small operators"}
    assert all(value >= 0 for value in found.values())


def test_kinds_go_by_operators_and_fused_ones_by_their_names(script):
    assert script.kind_of("FullyConnected", "encoder.blocks.0.attn/MatMul") == "linear layers"
    assert script.kind_of("FullyConnectedQuantizedLegacy", "encoder.blocks.0.mlp.fc1/MatMul") == "linear layers"
    assert script.kind_of("Subgraph", "encoder.blocks.0.attn/Transpose_2") == "attention"
    assert script.kind_of("Subgraph", "encoder.blocks.0.mlp/Add") == "small operators"
