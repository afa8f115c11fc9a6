"""What is in a graph: operators, weights, inputs and outputs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper, shape_inference

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import TensorSpec

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_SHAPE_NUMBERS = 16  # sizes, scales, axes: an initializer of so few elements may steer a shape


@dataclass(frozen=True)
class Description:
    """A readable summary of one ONNX file."""

    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    parameters: int
    weight_bytes: int


def read_graph(path: Path, *, weights: bool = False) -> ModelProto:
    """The graph, without its external weights unless they are asked for.

    Raises:
        BadFileError: not an ONNX file.
    """
    try:
        return onnx.load(path, load_external_data=weights)
    except Exception as exc:  # protobuf raises its own, undocumented classes
        raise BadFileError(f"{path} is not an ONNX file ({exc})", hint="export it again") from exc


def describe(path: Path) -> Description:
    """Summary of the file at ``path``."""
    model = read_graph(path)
    graph = model.graph
    sizes = [(math.prod(tensor.dims), tensor.data_type) for tensor in graph.initializer]
    weight_bytes = sum(count * helper.tensor_dtype_to_np_dtype(kind).itemsize for count, kind in sizes)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return Description(
        opset=opset,
        inputs=tuple(_tensor_spec(value) for value in graph.input),
        outputs=tuple(_tensor_spec(value) for value in graph.output),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        parameters=sum(math.prod(tensor.dims) for tensor in _weights(model)),
        weight_bytes=weight_bytes,
    )


def _weights(model: ModelProto) -> list[TensorProto]:
    """The initializers that are weights: floating-point numbers, and in a quantised graph the integers or 8-bit floats
    that DequantizeLinear restores; its steps and zeros describe them, and are none."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    about = {name for node in pairs for name in node.input[1:]}
    restored = {node.input[0] for node in pairs}
    return [
        tensor
        for name, tensor in tensors.items()
        if name not in about and (name in restored or tensor.data_type in _FLOATS)
    ]


def element_types(model: ModelProto) -> dict[str, int]:
    """Tensor name to its element type (``TensorProto.FLOAT``, …), inferred where the graph does not say.

    Raises:
        BadFileError: an operator's output has no type that could be inferred.
    """
    inferred = shape_inference.infer_shapes(without_weights(model), check_type=True)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    for node in model.graph.node:
        for name in node.output:
            if name and not types.get(name):
                raise BadFileError(f"the type of tensor {name!r} cannot be inferred", hint="export the model again")
    return types


def without_weights(model: ModelProto) -> ModelProto:
    """A copy with its large weights as inputs: inference needs types and shapes, not half a gigabyte."""
    large = [tensor for tensor in model.graph.initializer if math.prod(tensor.dims) > _SHAPE_NUMBERS]
    small = [tensor for tensor in model.graph.initializer if math.prod(tensor.dims) <= _SHAPE_NUMBERS]
    weights = [helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in large]
    graph = helper.make_graph(
        model.graph.node, "types", [*model.graph.input, *weights], model.graph.output, initializer=small
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
