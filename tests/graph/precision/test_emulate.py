"""The runner ``emu`` rounds as the types say, which ONNX Runtime's CPU does not."""

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.tiny import exported

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.graph.precision.types import to_half
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.common.samples import structured_images

KINDS = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
SHAPE = (1, 1, 1, 3)


def run(path, inputs, runtime="emu"):
    with open_runner(path, runtime) as runner:
        return runner.infer(inputs)


def chain(tmp_path, precision, *steps, keep=()):
    """The file of a typed graph: x (1, 1, 1, 3) goes through (operator, constant) steps."""
    nodes, weights, last = [], [], "x"
    for index, (operator, number) in enumerate(steps):
        weights.append(numpy_helper.from_array(np.array([number], np.float32), f"c{index}"))
        target = "y" if index == len(steps) - 1 else f"t{index}"
        nodes.append(helper.make_node(operator, [last, f"c{index}"], [target], name=f"n{index}"))
        last = target
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], initializer=weights)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10))
    if precision != "fp32":
        to_half(model, precision, keep)
    path = tmp_path / f"{precision}.onnx"
    ir.save(model, path)
    return path


@pytest.mark.parametrize("precision", KINDS)
def test_every_tensor_is_rounded_as_its_type(precision, tmp_path):
    x = np.array([0.1, -7.3, 1234.567], np.float32).reshape(SHAPE)
    steps = [("Add", 0.3), ("Mul", 1.7), ("Sub", 100.1), ("Div", 0.7)]
    kind = KINDS[precision]

    def rounded(value):
        return np.asarray(value, np.float32).astype(kind).astype(np.float32)

    expected = rounded(x)
    for operator, number in steps:
        ufunc = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract, "Div": np.divide}[operator]
        expected = rounded(ufunc(expected, rounded(number)))
    found = run(chain(tmp_path, precision, *steps), {"x": x})["y"]
    np.testing.assert_array_equal(found, expected)
    exact = run(chain(tmp_path, "fp32", *steps), {"x": x})["y"]
    assert (found != exact).any()


def test_an_overflow_that_onnx_runtime_hides_is_seen(tmp_path):
    x = np.array([1.0, 2.0, 100.0], np.float32).reshape(SHAPE)
    path = chain(tmp_path, "fp16", ("Mul", 1024.0), ("Mul", 1e-3))
    found = run(path, {"x": x})["y"].ravel()
    assert np.isfinite(found[:2]).all()
    assert np.isinf(found[2])  # 102400 has no place in FP16
    assert np.isfinite(run(path, {"x": x}, "ort")["y"]).all()  # the reason why emu exists
    kept = chain(tmp_path, "fp16", ("Mul", 1024.0), ("Mul", 1e-3), keep=("n0", "n1"))
    assert np.isfinite(run(kept, {"x": x})["y"]).all()
    assert np.isfinite(run(chain(tmp_path, "bf16", ("Mul", 1024.0), ("Mul", 1e-3)), {"x": x})["y"]).all()


def test_a_graph_without_16_bit_tensors_is_run_as_it_is():
    artifact = exported("tiny-vit")
    inputs = model_inputs(artifact.sidecar, structured_images(2, 64, 96))
    ours, plain = (run(artifact.path, inputs, runtime)["predicted_depth"] for runtime in ("emu", "ort"))
    np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize("precision", KINDS)
def test_networks_lose_what_their_type_loses(precision):
    """Against FP32: an error of the order of the type's step, neither nothing nor garbage."""
    full, typed = exported("tiny-hybrid"), exported("tiny-hybrid", precision=precision)
    inputs = model_inputs(full.sidecar, structured_images(2, 64, 96))
    exact = run(full.path, inputs, "ort")["predicted_depth"]
    error = np.abs(run(typed.path, inputs)["predicted_depth"] - exact).max() / np.ptp(exact)
    step = {"fp16": 2.0**-11, "bf16": 2.0**-8}[precision]
    assert step / 20 < error < 60 * step


def test_what_is_evidence_depends_on_the_precision():
    assert reference_runtime(exported("tiny-vit").sidecar) == "ort"
    assert reference_runtime(exported("tiny-vit", precision="fp16").sidecar) == "emu"


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"\x07nonsense")
    with pytest.raises(BadFileError, match="not an ONNX file"), open_runner(path, "emu"):
        pass


def test_a_tensor_without_a_type_is_named(tmp_path):
    path = chain(tmp_path, "fp16", ("Add", 1.0), ("Mul", 2.0))
    model = onnx.load(path)
    model.graph.node[1].op_type, model.graph.node[1].domain = "Mystery", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    with pytest.raises(BadFileError, match="'t0' cannot be inferred"), open_runner(path, "emu"):
        pass


def test_a_precision_without_kernels_says_what_can_run_it(tmp_path):
    artifact = exported("tiny-vit", precision="bf16")
    image = structured_images(1, 64, 96)[0]
    with pytest.raises(IncompatibleError, match="no kernel") as caught, dpt_deploy.load(artifact.path):
        pass
    assert "--runtime emu" in str(caught.value.hint)
    with dpt_deploy.load(artifact.path, runtime="emu") as model, dpt_deploy.load(exported("tiny-vit").path) as full:
        found, exact = (predict(image).depth for predict in (model, full))
    assert 0 < np.abs(found - exact).max() / np.ptp(exact) < 0.1
