"""Bias correction: the mean of every output channel is that of the FP32 graph again, by a computation of NumPy."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from dpt_deploy.core.precision import PRECISIONS
from dpt_deploy.graph.precision.bias import (
    correct,
    expected_shift,
    is_correctable,
    shifts,
    write_means_probe,
)
from dpt_deploy.graph.precision.qdq import grid, quantise, quantised_weight, watched

CLIP = {"x": 1.0, "hidden": 1.5, "y": 30.0}  # numbers are clipped, which shifts means
PRECISION = "int8-cpu"
FORM = PRECISIONS[PRECISION].quantised


def network(kind, groups=1):
    """x, a convolution of 1 x 1 or a product with a bias, and what ends the graph; positive inputs."""
    rng = np.random.default_rng(0)
    bias = numpy_helper.from_array(rng.normal(size=6).astype(np.float32), "bias")
    if kind == "Conv":
        weight = rng.normal(size=(6, 4 // groups, 1, 1)).astype(np.float32)
        nodes = [helper.make_node("Conv", ["x", "w", "bias"], ["y"], name="node", group=groups)]
        shape = [1, 4, 16, 16]
    else:
        weight = rng.normal(size=(4, 6)).astype(np.float32)
        product = helper.make_node("MatMul", ["x", "w"], ["product"], name="node")
        nodes, shape = [product, helper.make_node("Add", ["product", "bias"], ["y"], name="sum")], [1, 16, 16, 4]
    ends = [helper.make_tensor_value_info("x", 1, shape), helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(nodes, kind, ends[:1], ends[1:], [numpy_helper.from_array(weight, "w"), bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(model), np.abs(rng.normal(size=shape)).astype(np.float32)


def run(model, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})


def channel_means(values):
    channels = values.shape.index(6)
    return values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != channels))


def measured(model, x, tmp_path):
    """Shifts as an export measures them."""
    ir.save(model, tmp_path / "full.onnx")
    grids = {PRECISION: {name: grid(FORM, CLIP[name], (0.0, float(x.max()))) for name in watched(model)}}
    probe = write_means_probe(tmp_path / "full.onnx", tmp_path / "means.onnx", grids, ())
    found = ort.InferenceSession(probe.path).run(None, {"x": x})
    return shifts(model, PRECISION, dict(zip(probe.names.values(), found, strict=True)))


@pytest.mark.parametrize(("kind", "groups"), [("Conv", 1), ("Conv", 2), ("MatMul", 1)])
def test_means_are_those_of_fp32_again(kind, groups, tmp_path):
    model, x = network(kind, groups)
    found = measured(model, x, tmp_path)
    wanted, means = channel_means(run(model, x)[0]), {}
    for name, factor in (("uncorrected", 0.0), ("corrected", 1.0), ("wrong sign", -1.0)):
        changed = model.clone()
        quantise(changed, PRECISION, CLIP, (), {"x": (0.0, float(x.max()))})
        assert correct(changed, {node: factor * shift for node, shift in found.items()}) == 1
        means[name] = np.abs(channel_means(run(changed, x)[0]) - wanted).max()
    assert means["corrected"] < 1e-5
    assert means["uncorrected"] > 0.05
    assert means["wrong sign"] == pytest.approx(2 * means["uncorrected"], rel=1e-3)


def test_the_shift_of_a_kernel_is_that_of_a_convolution_by_hand():
    rng = np.random.default_rng(1)
    weight, x = rng.normal(size=(3, 2, 3, 3)).astype(np.float32), np.abs(rng.normal(size=(2, 40, 40)))
    coarse = np.rint(x.clip(0, 1) * 8) / 8
    steps, whole = quantised_weight(weight, 0, FORM)
    rounded = whole * steps.reshape(-1, 1, 1, 1)

    def convolved(image, kernel):
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(1, 2))
        return np.einsum("chwij,ocij->ohw", windows, kernel).mean(axis=(1, 2))

    by_hand = convolved(x, weight) - convolved(coarse, rounded)
    found = expected_shift(weight, 0, FORM, x.mean(axis=(1, 2)), coarse.mean(axis=(1, 2)))
    np.testing.assert_allclose(found, by_hand, rtol=0.1, atol=0.05)  # windows at the border count less
    assert np.abs(by_hand).max() > 0.5


def test_a_product_without_a_bias_is_left_alone_and_a_convolution_gets_one():
    model, _ = network("MatMul")
    add = next(node for node in model.graph if node.op_type == "Add")
    add.replace_input_with(0, add.inputs[1])
    assert correct(model, {"node": np.ones(6, np.float32)}) == 0
    model, _ = network("Conv")
    conv = next(iter(model.graph))
    conv.resize_inputs(2)
    assert correct(model, {"node": np.ones(6, np.float32)}) == 1
    np.testing.assert_array_equal(conv.inputs[2].const_value.numpy(), np.ones(6))


def test_integers_are_corrected_and_floats_are_not():
    assert [name for name, each in PRECISIONS.items() if each.quantised and is_correctable(name)] == [
        "int8",
        "int8-cpu",
        "int8-openvino",
    ]
