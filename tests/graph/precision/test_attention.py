"""Attention in 8 bits: queries and keys are rounded, and a product computes each of them."""

import functools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.tiny import exported

from dpt_deploy.core.environment import sums_8_bits_in_16
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.precision import PRECISIONS
from dpt_deploy.graph.precision.attention import attentions, operands, split_projections
from dpt_deploy.graph.precision.qdq import ends, quantise, watched

PRECISION = "int8-openvino"
JOINT = ("tiny-vit", "tiny-hybrid", "tiny-beit", "tiny-dinov2")  # networks with one product for all three
X = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)


def quantised(name, precision=PRECISION, keep=()):
    model = ir.load(exported(name).path)
    clip = dict.fromkeys(watched(model, scores=True), 3.0)
    quantise(model, precision, clip, [*ends(model), *keep])
    return model


def rounded(node):
    return [value.producer().op_type == "DequantizeLinear" for value in operands(node)]


def output(model):
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})[0]


@functools.cache
def whole(name):
    """Output of a quantised network before its projections are split."""
    return output(quantised(name))


@pytest.mark.parametrize("precision", [name for name, each in PRECISIONS.items() if each.quantised])
def test_queries_and_keys_are_rounded_for_openvino_only(precision):
    found = [rounded(node) for node in attentions(quantised("tiny-vit", precision))]
    assert found == [[precision == PRECISION] * 2] * 4


def test_attention_that_is_kept_is_not_rounded():
    kept = attentions(quantised("tiny-vit"))[1].name
    found = {node.name: rounded(node) for node in attentions(quantised("tiny-vit", keep=[kept]))}
    assert [name for name, pair in found.items() if not any(pair)] == [kept]


def test_queries_that_were_not_calibrated_are_named():
    model = ir.load(exported("tiny-vit").path)
    with pytest.raises(BadFileError, match=r"'encoder\.blocks\.0\.attn/Squeeze' was not calibrated"):
        quantise(model, PRECISION, dict.fromkeys(watched(model), 3.0))


@pytest.mark.parametrize("name", JOINT)
def test_projections_are_split_and_the_numbers_stay(name):
    model = quantised(name)
    names = [[value.name for value in node.inputs[:3]] for node in attentions(model)]
    assert split_projections(model) == len(names)
    assert [[value.name for value in node.inputs[:3]] for node in attentions(model)] == names
    assert not [node.name for node in model.graph if node.op_type == "Slice" and "attn" in node.name]
    found = output(model)
    assert np.abs(found - whole(name)).max() <= 1e-5 * np.ptp(whole(name))


def test_parts_in_another_place_would_show():
    model = quantised("tiny-vit")
    split_projections(model)
    node = attentions(model)[0]
    query, key = node.inputs[:2]
    node.replace_input_with(0, key)
    node.replace_input_with(1, query)
    node.replace_input_with(2, key)
    assert np.abs(output(model) - whole("tiny-vit")).max() > 1e-3 * np.ptp(whole("tiny-vit"))


def swapped(model):
    for node in attentions(model):
        query, _, value = node.inputs[:3]
        node.replace_input_with(0, value)
        node.replace_input_with(2, query)


def read_twice(model):
    for node in [each for each in model.graph if each.op_type == "Add" and each.name.endswith(".qkv/Add")]:
        reader = ir.node("Identity", [node.outputs[0]], name=f"{node.name}/again")
        model.graph.insert_after(node, reader)


def in_floats(model):
    for node in [each for each in model.graph if each.op_type == "MatMul" and each.name.endswith(".qkv/MatMul")]:
        weight = ir.node("Identity", [node.inputs[1]], name=f"{node.name}/float")
        model.graph.insert_before(node, weight)
        node.replace_input_with(1, weight.outputs[0])


@pytest.mark.parametrize("change", [swapped, read_twice, in_floats])
def test_projections_of_another_form_are_left_as_they_are(change):
    model = quantised("tiny-vit")
    change(model)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert split_projections(model) == 0
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_projections_that_are_separate_already_are_left_as_they_are():
    model = quantised("tiny-nextvit")
    assert attentions(model)
    assert split_projections(model) == 0


@pytest.mark.skipif(sums_8_bits_in_16(), reason="needs a processor with a unit for 8-bit products")
@pytest.mark.parametrize("precision", [PRECISION, "int8"])
def test_openvino_multiplies_queries_and_keys_in_integers(precision):
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    model = quantised("tiny-vit", precision)
    split_projections(model)
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(ir.to_proto(model).SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    assert np.abs(compiled(X)[0] - whole("tiny-vit")).max() < 0.05 * np.ptp(whole("tiny-vit"))
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    found = [(info["originalLayersNames"].astype(str), info["primitiveType"].astype(str)) for info in infos]
    fused = [kind for names, kind in found if "Softmax" in names]
    assert len(fused) == 4
    assert [kind.endswith("i8") for kind in fused] == [precision == PRECISION] * 4, fused
