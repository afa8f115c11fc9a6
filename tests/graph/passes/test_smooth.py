"""Smoothing: exact in FP32, a gain where channels differ, refused where something else reads a norm."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support.tiny import exported

from dpt_deploy.graph.passes.smooth import candidates, smooth
from dpt_deploy.graph.precision.qdq import ends, quantise, watched
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.metrics import range_error


def outputs(path, inputs, names=None):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = names or [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def magnitudes(model, path, names, inputs):
    """The tensors themselves, from a copy of the graph that returns them."""
    proto = ir.to_proto(model)
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    onnx.save(proto, path)
    return {name: np.abs(values) for name, values in outputs(path, inputs, names).items()}


@pytest.fixture
def inputs():
    return model_inputs(exported("tiny-vit").sidecar, structured_images(1, 64, 96))


def uneven():
    """The network with channels behind norms that differ a thousandfold, and weights that undo it."""
    model = ir.load(exported("tiny-vit").path)
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            width = node.inputs[1].shape[0]
            factors = np.logspace(-1.5, 1.5, width)[np.random.default_rng(0).permutation(width)]
            for value in (node.inputs[1], node.inputs[2]):
                renewed(model, node, node.inputs.index(value), value.const_value.numpy() * factors)
            for use in list(node.outputs[0].uses()):
                weight = use.node.inputs[1].const_value.numpy()
                renewed(model, use.node, 1, weight / factors[:, None])
    return model


def renewed(model, node, index, numbers):
    value = ir.Value(name=f"{node.name}.uneven{index}", const_value=ir.Tensor(numbers.astype(np.float32)))
    value.shape, value.type = ir.Shape(numbers.shape), ir.TensorType(ir.DataType.FLOAT)
    model.graph.register_initializer(value)
    node.replace_input_with(index, value)


def measured(model, tmp_path, inputs):
    found = magnitudes(model, tmp_path / "marked.onnx", candidates(model), inputs)
    return {name: values.max(axis=(0, 1)) for name, values in found.items()}


def noise(model, tmp_path, inputs, reference):
    clip = {
        name: float(values.max())
        for name, values in magnitudes(model, tmp_path / "m.onnx", watched(model), inputs).items()
    }
    quantise(model, "int8", clip, ends(model))
    ir.save(model, tmp_path / "quantised.onnx")
    (found,) = outputs(tmp_path / "quantised.onnx", inputs).values()
    return float(np.mean((found - reference) ** 2))


def test_smoothing_leaves_the_output_and_helps_where_channels_differ(tmp_path, inputs):
    (reference,) = outputs(exported("tiny-vit").path, inputs).values()
    largest = measured(uneven(), tmp_path, inputs)
    model = uneven()
    outcome = smooth(model, largest)
    assert len(outcome.fired) == len(candidates(model)) > 0
    assert not outcome.refused
    ir.save(model, tmp_path / "smooth.onnx")
    onnx.checker.check_model(tmp_path / "smooth.onnx", full_check=True)
    (found,) = outputs(tmp_path / "smooth.onnx", inputs).values()
    assert range_error(found, reference)[0] < 1e-4
    plain, better = noise(uneven(), tmp_path, inputs, reference), noise(model, tmp_path, inputs, reference)
    assert better < 0.3 * plain


def test_factors_that_miss_the_weights_would_show(tmp_path, inputs):
    """The negative of the test above: the same algebra with one matrix forgotten moves the output."""
    (reference,) = outputs(exported("tiny-vit").path, inputs).values()
    model = ir.load(exported("tiny-vit").path)
    norm = next(node for node in model.graph if node.op_type == "LayerNormalization")
    renewed(model, norm, 1, norm.inputs[1].const_value.numpy() * np.linspace(0.5, 2, norm.inputs[1].shape[0]))
    ir.save(model, tmp_path / "wrong.onnx")
    (found,) = outputs(tmp_path / "wrong.onnx", inputs).values()
    assert range_error(found, reference)[0] > 1e-3


def test_a_norm_that_others_read_is_refused(tmp_path, inputs):
    model = ir.load(exported("tiny-vit").path)
    largest = measured(model, tmp_path, inputs)
    first, second, *rest = [node for node in model.graph if node.op_type == "LayerNormalization"]
    model.graph.outputs.append(first.outputs[0])
    del largest[second.outputs[0].name]
    extra = ir.node("Relu", [rest[0].outputs[0]], name="extra/Relu")
    extra.outputs[0].name = "extra"
    model.graph.append(extra)
    outcome = smooth(model, largest)
    assert outcome.refused == {
        first.name: "the graph returns it",
        second.name: "its channels were not measured",
        rest[0].name: "extra/Relu reads it, which is no product with a constant matrix",
    }
    assert len(outcome.fired) == len(rest) - 1
