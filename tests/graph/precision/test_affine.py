"""Constants in front of a rounding: OpenVINO merges those of channels with it, wrongly, unless they are hidden."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.tiny import exported, typed

from dpt_deploy.graph.precision.affine import HIDDEN, hide_affines

CHANNELS, STEP = 32, np.float32(0.07)
GRAPH = """<ir_version: 9, opset_import: ["": 20]>
affine (float[{dims}] x) => (float[b, c, h, w] y) {{
  scaled = Mul (x, scale)
  shifted = Add (scaled, shift)
  cut = Relu (shifted)
  quantised = QuantizeLinear (cut, step, zero)
  y = DequantizeLinear (quantised, step, zero)
}}"""
FREE, FIXED = f"batch, {CHANNELS}, height, width", f"2, {CHANNELS}, 6, 8"
UNKNOWN = "batch, channels, height, width"
SHAPES = {"channels": (CHANNELS, 1, 1), "batch of one": (1, CHANNELS, 1, 1), "columns": (8,), "one": (1,)}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, CHANNELS, 6, 8)).astype(np.float32)


def affine(dims=FREE, shape=SHAPES["channels"]):
    """The graph with random constants, and its output for ``X`` computed by hand."""
    rng = np.random.default_rng(1)
    scale, shift = rng.uniform(0.3, 2.0, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    model = onnx.parser.parse_model(GRAPH.format(dims=dims))
    constants = {"scale": scale, "shift": shift, "step": np.array(STEP), "zero": np.array(0, np.uint8)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    return ir.from_proto(model), np.clip(np.rint((X * scale + shift) / STEP), 0, 255) * STEP


def hidden(model):
    hide_affines(model)
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    return written


def in_openvino(model, **config):
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"} | config
    )
    return compiled(X)[0]


def names(model):
    return [node.name for node in model.graph.node if node.name.endswith(HIDDEN)]


@pytest.mark.parametrize("shape", ["channels", "batch of one"])
def test_the_constants_of_channels_depend_on_the_input_and_the_numbers_stay(shape):
    model, expected = affine(shape=SHAPES[shape])
    written = hidden(model)
    assert sorted(names(written)) == [f"scale{HIDDEN}", f"shift{HIDDEN}"]
    session = ort.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": X})[0], expected)


@pytest.mark.parametrize(("dims", "shape"), [(FIXED, "channels"), (FREE, "columns"), (FREE, "one")])
def test_what_openvino_computes_right_is_left_as_it_is(dims, shape):
    model, expected = affine(dims, SHAPES[shape])
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    written = hidden(model)
    assert written.SerializeToString(deterministic=True) == before
    assert np.abs(in_openvino(written, LP_TRANSFORMS_MODE=False) - expected).max() < STEP / 2


CASES = [(FREE, False), (UNKNOWN, False), (UNKNOWN, True)]


@pytest.mark.parametrize(("dims", "integers"), CASES)
def test_openvino_is_right_with_hidden_constants(dims, integers):
    model, expected = affine(dims)
    assert np.abs(in_openvino(hidden(model), LP_TRANSFORMS_MODE=integers) - expected).max() < STEP / 2


@pytest.mark.parametrize(("dims", "integers"), CASES)
def test_openvino_is_wrong_without(dims, integers):
    """Once it is right, nothing needs to be hidden any more."""
    model, expected = affine(dims)
    assert np.abs(in_openvino(ir.to_proto(model), LP_TRANSFORMS_MODE=integers) - expected).max() > 5 * STEP


@pytest.mark.parametrize("precision", ["int8-cpu", "int8-openvino"])
def test_files_for_cpus_hide_those_of_group_norms_that_are_taken_apart(precision):
    pytest.importorskip("torch", reason="the extra export is not installed")
    if precision == "int8-openvino":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    found = names(onnx.load(exported("tiny-hybrid", precision=precision, opset=20).path))
    assert found
    assert all(".norm" in name for name in found)
    assert names(onnx.load(typed("tiny-hybrid", precision).path)) == []  # opset 23 has a node for the whole norm
