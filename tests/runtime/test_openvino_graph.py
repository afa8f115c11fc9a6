"""Graphs as OpenVINO reads them: group norms are taken apart, and those that it computes wrong are refused."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from support.tiny import copied, exported

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino
from openvino import opset14

from dpt_deploy.core.size import Size
from dpt_deploy.graph.precision.group_norms import write_out_group_norms
from dpt_deploy.jobs.verify.verify import verify_artifact
from dpt_deploy.runtime.openvino import OpenVinoRunner
from dpt_deploy.runtime.openvino_graph import decompose_group_norms, join_group_norms, refuse_wrong


def norms(model):
    return sum(each.get_type_name() == "GroupNormalization" for each in model.get_ops())


def normalised(path, image, *, groups=4, epsilon=1e-3):
    """A model of one group norm of 8 channels, and what PyTorch computes for it."""
    rng = np.random.default_rng(1)
    scale, shift = (rng.standard_normal(8).astype(np.float32) for _ in range(2))
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=groups, epsilon=epsilon)
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8, "h", "w"]) for name in "xy"]
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(shift, "b")]
    graph = helper.make_graph([node], "norm", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)
    tensors = [torch.from_numpy(each) for each in (image, scale, shift)]
    expected = torch.nn.functional.group_norm(tensors[0], groups, *tensors[1:], epsilon)
    return openvino.Core().read_model(str(path)), expected.numpy()


@pytest.mark.parametrize("fixed", [False, True], ids=["any size", "one size"])
def test_a_group_norm_that_was_taken_apart_is_that_of_pytorch(fixed, tmp_path):
    image = np.random.default_rng(0).standard_normal((2, 8, 5, 7)).astype(np.float32) * 3 + 1
    model, expected = normalised(tmp_path / "norm.onnx", image)
    assert decompose_group_norms(model) == 1
    assert norms(model) == 0
    if fixed:
        model.reshape(list(image.shape))
    (found,) = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image]).values()
    assert np.abs(found - expected).max() < 1e-5
    _, other = normalised(tmp_path / "norm.onnx", image, groups=2)
    assert np.abs(found - other).max() > 0.1


@pytest.mark.parametrize("static", [None, Size(64, 96)], ids=["any size", "one size"])
def test_hybrids_run_without_group_norms(static, tmp_path):
    artifact = copied(exported("tiny-hybrid", static=static), tmp_path)
    assert verify_artifact(artifact.path, runtime="openvino").comparison.passed
    model = openvino.Core().read_model(str(artifact.path))
    before = norms(model)
    assert decompose_group_norms(model) == before > 10
    assert norms(model) == 0


def written_out(path, image):
    """A group norm, written out as in files for OpenVINO, and what PyTorch computes for it."""
    _, expected = normalised(path, image)
    model = ir.load(path)
    relu = ir.node("Relu", [model.graph.outputs[0]], name="relu")
    relu.outputs[0].name, relu.outputs[0].type = "z", model.graph.outputs[0].type
    model.graph.append(relu)
    model.graph.outputs[0] = relu.outputs[0]
    assert write_out_group_norms(model) == 1
    ir.save(model, path)
    return openvino.Core().read_model(str(path)), np.maximum(expected, 0)


def rows(model):
    return sum(each.get_type_name() == "MVN" for each in model.get_ops())


def test_a_norm_that_is_written_out_becomes_rows_and_is_that_of_pytorch(tmp_path):
    image = np.random.default_rng(0).standard_normal((2, 8, 5, 7)).astype(np.float32) * 3 + 1
    model, expected = written_out(tmp_path / "norm.onnx", image)
    assert (join_group_norms(model), rows(model)) == (1, 1)
    assert join_group_norms(model) == 0
    (found,) = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([image]).values()
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["Subtract", "Sqrt", "Divide"])
def test_anything_else_is_left_as_it_is(kind, tmp_path):
    image = np.ones((1, 8, 4, 4), np.float32)
    model, _ = written_out(tmp_path / "norm.onnx", image)
    for node in [each for each in model.get_ops() if each.get_type_name() == kind]:
        same = opset14.relu(node.input_value(0))
        node.output(0).replace(same.output(0))
    assert (join_group_norms(model), rows(model)) == (0, 0)


def computed(model):
    """Number of norms over rows in a compiled graph."""
    return sum(each.get_rt_info()["layerType"] == "MVN" for each in model.get_ops())


def test_the_graph_for_any_size_has_rows_and_that_for_one_size_means():
    path = exported("tiny-hybrid", precision="int8-openvino").path
    x, kept = np.zeros((1, 3, 64, 64), np.float32), openvino.Core().read_model(str(path))
    with OpenVinoRunner(path) as runner:
        runner.infer({"pixel_values": x})
        runner._graph(None)
        one, other = (computed(graph.compiled.get_runtime_model()) for graph in runner._graphs.values())
    assert other - one == join_group_norms(kept) > 10


def test_a_sound_graph_is_not_refused():
    path = exported("tiny-vit", precision="int8-openvino").path
    refuse_wrong(openvino.Core().read_model(str(path)), path)
