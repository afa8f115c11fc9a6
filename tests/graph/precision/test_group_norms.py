"""Group norms written out: the same numbers as PyTorch's, in a file that keeps its names."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from support.tiny import exported

from dpt_deploy.core.errors import DptError
from dpt_deploy.graph.precision import group_norms
from dpt_deploy.graph.precision.group_norms import write_out_group_norms

RNG = np.random.default_rng(0)
CHANNELS, GROUPS = 12, 3
EPSILON = 1e-3


def norm(*, constant=True):
    """A model of one group norm over maps of 12 channels in 3 groups."""
    numbers = {name: RNG.normal(size=CHANNELS).astype(np.float32) for name in ("scale", "bias")}
    node = onnx.helper.make_node(
        "GroupNormalization", ["x", "scale", "bias"], ["part.norm"], "part.norm/N", num_groups=GROUPS, epsilon=EPSILON
    )
    relu = onnx.helper.make_node("Relu", ["part.norm"], ["y"], "part/Relu")
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["n", CHANNELS, "h", "w"]) for name in ("x", "y")]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in numbers.items()]
    given = [] if constant else [onnx.helper.make_tensor_value_info(name, 1, [CHANNELS]) for name in numbers]
    graph = onnx.helper.make_graph([node, relu], "g", [ends[0], *given], ends[1:], weights if constant else [])
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10))


def output(model, pixels):
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    session = ort.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def error(change=None, offset=0.0):
    """Largest difference to PyTorch's group norm in float64, over the range of its output."""
    model = norm()
    pixels = (RNG.normal(size=(2, CHANNELS, 5, 7)) + offset).astype(np.float32)
    scale, bias = (
        torch.tensor(value.const_value.numpy(), dtype=torch.float64) for value in model.graph.node(0).inputs[1:]
    )
    normal = torch.nn.functional.group_norm(torch.from_numpy(pixels).double(), GROUPS, scale, bias, EPSILON)
    expected = torch.relu(normal).numpy()
    assert write_out_group_norms(model) == 1
    if change:
        change(model)
    return np.abs(output(model, pixels) - expected).max() / np.ptp(expected)


def test_the_numbers_are_those_of_the_operator():
    assert error() < 1e-6


def test_a_large_mean_does_not_cancel():
    assert error(offset=1000.0) < 1e-3
    pixels = (RNG.normal(size=10_000) + 1000.0).astype(np.float32)
    assert abs((pixels**2).mean() - pixels.mean() ** 2 - 1.0) > 1e-2  # what the mean of squares would lose


def test_means_over_other_axes_would_show(monkeypatch):
    monkeypatch.setattr(group_norms, "_MEMBERS", [1])
    assert error() > 1e-2


def test_names_of_tensors_stay():
    model = norm()
    write_out_group_norms(model)
    *new, relu = model.graph
    assert (relu.inputs[0].name, relu.inputs[0].producer()) == ("part.norm", new[-1])
    assert all(node.name.startswith("part.norm.") or node.name == "part.norm/Add" for node in new)
    assert len({node.name for node in model.graph}) == len(model.graph)


def test_a_norm_whose_weights_are_computed_is_refused():
    with pytest.raises(DptError, match="no constant weights"):
        write_out_group_norms(norm(constant=False))


@pytest.mark.parametrize(("precision", "left"), [("int8-cpu", True), ("int8-openvino", False)])
def test_the_file_for_openvino_has_none(precision, left):
    model = ir.load(exported("tiny-hybrid", precision=precision).path)
    assert ("GroupNormalization" in {node.op_type for node in model.graph}) == left
