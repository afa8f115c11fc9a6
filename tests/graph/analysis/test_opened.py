"""An opened graph is parsed once, and each size is inferred once; nothing that analyses it changes it."""

from pathlib import Path

import onnx
import pytest
from support.tiny import exported

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis import opened, shapes
from dpt_deploy.graph.analysis.activations import peak_activation_bytes
from dpt_deploy.graph.analysis.describe import describe
from dpt_deploy.graph.analysis.fingerprint import fingerprint
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.operations import count_operations, operations_of_nodes

SMALL, LARGE = Size(64, 64), Size(64, 96)


def ask_everything(graph):
    size_of = (peak_activation_bytes, count_operations, operations_of_nodes)
    return [describe(graph), fingerprint(graph), *(ask(graph, *at) for ask in size_of for at in ((SMALL,), (LARGE, 2)))]


def counting(monkeypatch, module, name):
    calls, original = [], getattr(module, name)

    def counted(*args, **options):
        calls.append(args)
        return original(*args, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_file_is_parsed_once_and_each_size_inferred_once(monkeypatch):
    path = exported("tiny-vit").path
    parses = counting(monkeypatch, onnx, "load")
    types = counting(monkeypatch, opened, "element_types")
    sizes = counting(monkeypatch, opened, "infer_shapes")
    graph = OpenedGraph(path)
    first = ask_everything(graph)
    assert ask_everything(graph) == first
    assert (len(parses), len(types)) == (1, 1)
    assert [tuple(args[1:]) for args in sizes] == [(SMALL, 1), (LARGE, 2)]


def test_a_question_does_not_change_the_graph():
    path = exported("tiny-vit", precision="fp16").path
    graph = OpenedGraph(path)
    before = graph.model.SerializeToString(deterministic=True)
    first = ask_everything(graph)
    assert graph.model.SerializeToString(deterministic=True) == before
    assert first == ask_everything(OpenedGraph(path))


def test_every_tensor_has_a_shape_at_every_size():
    graph = OpenedGraph(exported("tiny-vit").path)
    for size in (SMALL, LARGE):
        found = graph.at(size, 3)
        outputs = {name for node in found.nodes for name in node.output if name}
        assert outputs <= found.shapes.keys()
        assert found.shapes["predicted_depth"] == [3, size.height, size.width]


def test_a_type_that_cannot_be_inferred_is_named(tmp_path):
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 32, 32]) for name in "xy"]
    nodes = [
        onnx.helper.make_node("Unknown", ["x"], ["between"], domain="elsewhere"),
        onnx.helper.make_node("Relu", ["between"], ["y"]),
    ]
    made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("elsewhere", 1)]
    (tmp_path / "m.onnx").write_bytes(onnx.helper.make_model(made, opset_imports=imports).SerializeToString())
    graph = OpenedGraph(tmp_path / "m.onnx")
    with pytest.raises(BadFileError, match="type of tensor 'between' cannot be inferred"):
        _ = graph.types


@pytest.mark.parametrize("spoil", ["weight", "output"])
def test_an_element_type_that_onnx_does_not_have_is_refused(spoil, tmp_path):
    model = onnx.load(exported("tiny-vit").path)
    if spoil == "weight":
        model.graph.initializer[0].data_type = 99
    else:
        model.graph.output[0].type.Clear()
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadFileError, match="no known element type"):
        OpenedGraph(tmp_path / "m.onnx")


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(BadFileError, match="not an ONNX file"):
        OpenedGraph(Path(__file__))


def test_inference_does_not_need_the_weights():
    model = onnx.load(exported("tiny-vit").path)
    assert len(shapes.without_weights(model).SerializeToString()) < len(model.SerializeToString()) / 10
