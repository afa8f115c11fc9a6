"""A graph's digest tells graphs apart and not their weights; a weight's tells its values."""

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from support.tiny import exported, tampered

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.graph.analysis.fingerprint import fingerprint
from dpt_deploy.graph.analysis.opened import OpenedGraph

pytestmark = pytest.mark.needs("onnx", "torch", "onnxruntime")
BIAS = "head.conv1.bias"


def change(name, how):
    """An edit of one initializer's values."""

    def edit(model):
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(how(numpy_helper.to_array(tensor).copy()), name))

    return edit


def first_node(field, value):
    def edit(model):
        setattr(model.graph.node[0], field, value)

    return edit


def test_other_weights_are_the_same_graph_and_named(tmp_path):
    before = fingerprint(OpenedGraph(exported("tiny-vit").path))
    changed = tampered(exported("tiny-vit"), tmp_path, change(BIAS, lambda values: values + 1))
    after = fingerprint(OpenedGraph(changed.path))
    assert after.graph == before.graph
    assert [name for name in before.weights if after.weights[name] != before.weights[name]] == [BIAS]


@pytest.mark.parametrize("field", ["doc_string", "name"])
def test_what_is_written_about_a_graph_counts_only_where_it_is_a_name(field, tmp_path):
    other = tampered(exported("tiny-vit"), tmp_path, first_node(field, "something else"))
    found = [fingerprint(OpenedGraph(path)).graph for path in (other.path, exported("tiny-vit").path)]
    assert (found[0] == found[1]) == (field == "doc_string")


def an_axis(model):
    return next(tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT64)


DIFFERENT = {
    "an operator": first_node("op_type", "Identity"),
    "a shape": change(BIAS, lambda values: values.reshape(1, -1)),
    "a type": change(BIAS, lambda values: values.astype("float16")),
    "a constant": lambda model: change(an_axis(model), lambda values: values + 1)(model),
    "an opset": lambda model: setattr(model.opset_import[0], "version", 21),
    "an input": lambda model: setattr(model.graph.input[0], "name", "x"),
}


@pytest.mark.parametrize("edit", DIFFERENT.values(), ids=DIFFERENT)
def test_another_graph_has_another_digest(edit, tmp_path):
    before, after = exported("tiny-vit").path, tampered(exported("tiny-vit"), tmp_path, edit).path
    assert fingerprint(OpenedGraph(after)).graph != fingerprint(OpenedGraph(before)).graph


def test_where_the_weights_lie_is_nothing_of_the_graph(tmp_path):
    inside, outside = exported("tiny-vit").path, tmp_path / "outside.onnx"
    onnx.save(onnx.load(inside), outside, save_as_external_data=True, location="outside.onnx.data", size_threshold=0)
    assert fingerprint(OpenedGraph(outside)) == fingerprint(OpenedGraph(inside))


def test_steps_and_integers_of_a_quantised_graph_are_weights():
    found = fingerprint(OpenedGraph(exported("tiny-vit", precision="int8").path)).weights
    assert any(".step" in name for name in found)
    assert any(name.endswith(".quantised") for name in found)


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(BadFileError, match="not an ONNX file"):
        fingerprint(OpenedGraph(Path(__file__)))
