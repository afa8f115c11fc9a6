"""Rounding in front of a pool: the same numbers, in integers."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.tiny import exported

from dpt_deploy.graph.precision.attention import split_projections
from dpt_deploy.graph.precision.bypass import bypass, pairs, quantised_nodes
from dpt_deploy.graph.precision.pooling import pool_integers
from dpt_deploy.graph.precision.qdq import ends, quantise, watched

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
pool (float[1, 2, height, width] x) => (float[1, 2, h, w] {outputs}) {{
  pooled = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)
  whole = QuantizeLinear (pooled, step, zero)
  restored = DequantizeLinear (whole, step, zero)
  y = Relu (restored)
  {more}
}}"""
X = np.random.default_rng(0).normal(size=(1, 2, 9, 12)).astype(np.float32)


def graph(outputs="y", more=""):
    model = onnx.parser.parse_model(GRAPH.format(outputs=outputs, more=more))
    constants = {"step": np.array(0.05, np.float32), "zero": np.array(100, np.uint8)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return ir.from_proto(model)


def result(model):
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    session = ort.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})


def kinds(model):
    return [node.op_type for node in model.graph]


def test_the_pool_reads_rounded_numbers_and_nothing_changes():
    model = graph()
    (before,) = result(model)
    assert pool_integers(model) == 1
    assert kinds(model) == ["QuantizeLinear", "DequantizeLinear", "MaxPool", "Relu"]
    (after,) = result(model)
    assert np.array_equal(before, after)
    assert len(np.unique(after)) > 10


@pytest.mark.parametrize(
    "more",
    [{"outputs": "y, float[1, 2, p, q] pooled"}, {"outputs": "y, float[1, 2, p, q] z", "more": "z = Neg (pooled)"}],
)
def test_a_pool_with_another_reader_is_left_as_it_is(more):
    model = graph(**more)
    assert pool_integers(model) == 0
    assert kinds(model)[:2] == ["MaxPool", "QuantizeLinear"]


def test_stems_of_networks_pool_integers():
    model = ir.load(exported("tiny-hybrid").path)
    quantise(model, "int8-openvino", dict.fromkeys(watched(model, scores=True), 3.0), ends(model, image=True))
    assert pool_integers(model) == kinds(model).count("MaxPool") == 1


def test_a_variant_in_floats_reads_nothing_rounded():
    model = ir.load(exported("tiny-hybrid").path)
    quantise(model, "int8-openvino", dict.fromkeys(watched(model, scores=True), 3.0), ends(model, image=True))
    split_projections(model)
    pool_integers(model)
    written = ir.to_proto(model)
    restored = {pair.restored for pair in pairs(written)}
    bypass(written, [node.name for node in quantised_nodes(written)], outputs=False)
    assert restored
    assert [node.name for node in written.graph.node if restored.intersection(node.input)] == []
