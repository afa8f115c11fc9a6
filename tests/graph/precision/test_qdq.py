"""Quantised graphs: what is quantised, where pairs stand, and that every precision holds the same real numbers."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.tiny import TINY, exported

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.precision import PRECISIONS
from dpt_deploy.graph.analysis.shapes import element_types
from dpt_deploy.graph.precision.attention import attentions
from dpt_deploy.graph.precision.bypass import pairs
from dpt_deploy.graph.precision.qdq import ends, grid, quantise, quantised_weight, step, targets, watched
from dpt_deploy.graph.precision.types import is_typed, to_half

LEVELS = (
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
)

FORMATS = {name: each.quantised for name, each in PRECISIONS.items() if each.quantised}


def loaded(name):
    return ir.load(exported(name).path)


def clips(model, value=4.0):
    return dict.fromkeys(watched(model, scores=True), value)


def written(model, path):
    ir.save(model, path)
    onnx.checker.check_model(path, full_check=True)
    return onnx.load(path)


def session(path, level=LEVELS[0]):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums without VNNI, as the runner's
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("name", TINY)
def test_every_convolution_and_product_multiplies_quantised_numbers(name, precision, tmp_path):
    model = loaded(name)
    wanted = {node.name for node in targets(model)}
    done = quantise(model, precision, clips(model))
    after = written(model, tmp_path / "quantised.onnx")
    made = {output: node for node in after.graph.node for output in node.output}
    types = element_types(after)
    for node in after.graph.node:
        if node.name in wanted:
            restoring = [made[name] for name in node.input[:2]]
            assert [pair.op_type for pair in restoring] == ["DequantizeLinear"] * 2, node.name
            activation, weight = (types[pair.input[0]] for pair in restoring)
            form = FORMATS[precision]
            assert (activation, weight) == tuple(
                TensorProto.DataType.Value(name) for name in (form.signed or form.activations, form.weights)
            )
            assert all(types[name] == TensorProto.FLOAT for name in node.input[2:]), "a bias is not quantised"
    constants = [node for node in after.graph.node if node.op_type == "Conv" and node.name not in wanted]
    assert not constants
    scores = attentions(model) if FORMATS[precision].scores else []
    assert done.nodes == len(wanted) + len(scores)


def test_products_of_two_activations_are_no_targets():
    model = ir.load(exported("tiny-vit", opset=20).path)
    products = [node for node in model.graph if node.op_type == "MatMul"]
    found = {node.name for node in targets(model)}
    assert 0 < len([node for node in products if node.name not in found]) < len(products)


@pytest.mark.parametrize("precision", FORMATS)
def test_what_is_kept_is_left_alone(precision, tmp_path):
    model = loaded("tiny-hybrid")
    keep = ends(model)
    assert list(keep) == [targets(model)[0].name, targets(model)[-1].name]
    assert list(ends(model, image=True)) == [targets(model)[-1].name]
    quantise(model, precision, clips(model), keep)
    after = written(model, tmp_path / "kept.onnx")
    weights = {tensor.name: tensor.data_type for tensor in after.graph.initializer}
    for node in after.graph.node:
        if node.name in keep:
            assert weights[node.input[1]] == TensorProto.FLOAT


def test_both_integer_precisions_hold_the_same_real_numbers_where_the_range_is_not_known():
    """Signed, and unsigned with the zero point 128: every quantised value of one is one of the other."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(0, 2, 5000), np.linspace(-9, 9, 5000), [0.0, 4.0, -4.0]]).astype(np.float32)
    restored = {}
    for precision in ("int8", "int8-cpu"):
        kind = FORMATS[precision]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes,
            "pair",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
            [
                numpy_helper.from_array(np.array(step(4.0, kind.largest)), "s"),
                helper.make_tensor("z", TensorProto.DataType.Value(kind.activations), [], [kind.zero]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        restored[precision] = session(model.SerializeToString()).run(None, {"x": numbers})[0]
    np.testing.assert_array_equal(restored["int8"], restored["int8-cpu"])
    assert np.unique(restored["int8"]).size == 256  # and they are not all the same
    weight = rng.normal(size=(3, 4))
    weights = [quantised_weight(weight, 0, FORMATS[precision]) for precision in restored]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("bounds", "clip", "covered"),
    [
        ((0.0, 6.0), 6.0, (0.0, 6.0)),  # behind a ReLU
        ((-0.17, 3.0), 3.0, (-0.17, 3.0)),  # behind a GELU
        ((-5.0, 1.0), 2.0, (-2.0, 1.0)),  # clipped
        ((2.0, 3.0), 3.0, (0.0, 3.0)),  # zero is always one of the numbers
        ((-4.0, 4.0), 4.0, (-4.0, 4.0)),
    ],
)
def test_a_grid_with_an_offset_covers_what_the_tensor_holds_and_no_more(bounds, clip, covered):
    form = FORMATS["int8-cpu"]
    size, zero, _kind = grid(form, clip, bounds)
    low, high, tolerance = -zero * float(size), (255 - zero) * float(size), 0.51 * float(size) + 1e-3
    assert low == pytest.approx(covered[0], abs=tolerance)
    assert high == pytest.approx(covered[1], abs=tolerance)
    assert 0 <= zero <= 255
    assert grid(FORMATS["int8"], clip, bounds) == (step(clip, 127.0), 0, "INT8")  # TensorRT's have no offset
    assert grid(form, clip) == (step(clip, 127.0), 128, "UINT8")


def test_what_is_never_negative_is_unsigned_for_openvino_and_the_rest_signed():
    form = FORMATS["int8-openvino"]
    assert grid(form, 6.0, (0.0, 6.0)) == (step(6.0, 255.0), 0, "UINT8")
    assert grid(form, 6.0, (-0.1, 6.0)) == (step(6.0, 127.0), 0, "INT8")
    assert grid(form, 6.0) == (step(6.0, 127.0), 0, "INT8")  # what is not known may be negative


def test_both_types_are_in_one_graph_for_openvino(tmp_path):
    bounds = {"x": (-3.0, 3.0), "r": (0.0, 5.0)}
    model = onnx.load(conv_relu(tmp_path, "int8-openvino", clip=5.0, bounds=bounds))
    types = element_types(model)
    assert (types["x.quantised"], types["r.quantised"]) == (TensorProto.INT8, TensorProto.UINT8)
    assert "a.quantised" not in types  # outputs are not rounded


def conv_relu(tmp_path, precision, *, clip, bounds=None):
    """x → conv → relu → conv, quantised; and its FP32 original."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 4, 1, 1)).astype(np.float32), f"{name}.weight") for name in "ab"
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], name="a/Conv"),
        helper.make_node("Relu", ["a"], ["r"], name="r/Relu"),
        helper.make_node("Conv", ["r", "b.weight"], ["y"], name="b/Conv"),
    ]
    shape = [1, 4, 8, 8]
    ends_ = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "relu", ends_[:1], ends_[1:], weights)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    quantise(model, precision, {"x": 3.0, "a": 9.0, "r": clip, "y": 9.0}, (), bounds or {})
    path = tmp_path / f"{precision}.onnx"
    written(model, path)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_rounding_before_a_relu_and_after_it_is_the_same(level, tmp_path):
    """``int8-cpu`` quantises the convolution's output with the ReLU's step; the same numbers reach ``b``."""
    x = np.random.default_rng(2).normal(size=(1, 4, 8, 8)).astype(np.float32)
    engine, cpu = (
        session(conv_relu(tmp_path, name, clip=5.0), level).run(None, {"x": x})[0] for name in ("int8", "int8-cpu")
    )
    np.testing.assert_allclose(engine, cpu, rtol=1e-5, atol=1e-5)
    other = session(conv_relu(tmp_path, "int8", clip=0.5), level).run(None, {"x": x})[0]
    assert np.abs(other - engine).max() > 0.1  # a clipping value does show


def test_a_relu_between_becomes_a_bound_on_integers(tmp_path):
    model = onnx.load(conv_relu(tmp_path, "int8-cpu", clip=5.0))
    kinds = [node.op_type for node in model.graph.node]
    assert "Relu" not in kinds
    assert "Clip" in kinds
    assert "Relu" in [node.op_type for node in onnx.load(conv_relu(tmp_path, "int8", clip=5.0)).graph.node]


@pytest.mark.parametrize("level", LEVELS)
def test_a_range_that_starts_at_zero_is_the_relu_and_has_twice_the_levels(level, tmp_path):
    x = np.random.default_rng(2).normal(size=(1, 4, 8, 8)).astype(np.float32)
    bounds = {"x": (-3.0, 3.0), "r": (0.0, 9.0), "y": (-40.0, 40.0)}
    path = conv_relu(tmp_path, "int8-cpu", clip=9.0, bounds=bounds)
    model = onnx.load(path)
    assert not {"Clip", "Relu"} & {node.op_type for node in model.graph.node}
    relu = next(pair for pair in pairs(model) if pair.tensor == "r")
    assert (relu.source, relu.bounded) == ("a", True)
    model.graph.output.extend(
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "r.restored")]
    )
    onnx.save(model, path)
    _, before, after = session(path, level).run(None, {"x": x})
    size = grid(FORMATS["int8-cpu"], 9.0, bounds["r"])[0]
    assert (before < 0).any()
    assert size == pytest.approx(9.0 / 255, rel=1e-3)
    np.testing.assert_allclose(after, np.maximum(before, 0), atol=0.51 * size)


@pytest.mark.parametrize("precision", ["int8", "int8-cpu"])
@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-midas"])
def test_onnx_runtime_loads_it_at_every_level_of_optimisation(name, precision, tmp_path):
    model = loaded(name)
    quantise(model, precision, clips(model), ends(model))
    if precision == "int8":  # as it is shipped: what is not quantised has 16 bits
        to_half(model, "fp16")
    path = tmp_path / "quantised.onnx"
    written(model, path)
    for level in LEVELS:
        session(path, level)


def test_quantised_tensors_stay_so_in_a_16_bit_graph_and_fp32_nodes_read_them_without_a_cast(tmp_path):
    model = loaded("tiny-vit")
    fp32_node = "fusion.0.unit.conv1/Conv"
    quantise(model, "int8", clips(model), ends(model))
    to_half(model, "fp16", [fp32_node])
    after = written(model, tmp_path / "typed.onnx")
    types = element_types(after)
    made = {output: node for node in after.graph.node for output in node.output}
    for node in after.graph.node:
        if node.op_type == "Conv" and made.get(node.input[1]) is not None:
            assert made[node.input[0]].op_type == made[node.input[1]].op_type == "DequantizeLinear"
            assert types[node.output[0]] == (TensorProto.FLOAT if node.name == fp32_node else TensorProto.FLOAT16)


def test_weights_have_a_step_a_channel_and_steps_are_exact_in_fp16():
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(5, 3, 3, 3)).astype(np.float32) * np.logspace(-4, 2, 5).reshape(-1, 1, 1, 1)
    steps, whole = quantised_weight(weight, 0, FORMATS["int8"])
    assert steps.shape == (5,)
    np.testing.assert_array_equal(steps, steps.astype(np.float16).astype(np.float32))
    assert np.abs(whole).max() == 127
    assert (np.abs(whole * steps.reshape(-1, 1, 1, 1) - weight) <= 0.51 * steps.reshape(-1, 1, 1, 1)).all()
    nothing, zeros = quantised_weight(np.zeros((2, 2), np.float32), 1, FORMATS["int8"])
    assert (nothing > 0).all()
    assert not zeros.any()


@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_a_typed_graph_is_not_quantised(kind):
    model = loaded("tiny-vit")
    clip = clips(model)
    quantise(model, "int8", clip) if kind == "int8" else to_half(model, "fp16")
    assert is_typed(model)
    with pytest.raises(BadFileError, match="typed already"):
        quantise(model, "int8", clip)


def test_what_was_not_calibrated_and_what_is_not_there_is_named():
    model = loaded("tiny-vit")
    clip = clips(model)
    del clip["fusion.0.unit/Relu"]
    with pytest.raises(BadFileError, match=r"'fusion\.0\.unit/Relu' was not calibrated"):
        quantise(model, "int8", clip)
    with pytest.raises(BadFileError, match=r"no node 'nowhere'"):
        quantise(model, "int8", clip, ["nowhere"])
