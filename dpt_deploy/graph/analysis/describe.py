"""Summarise a graph: operators, weights, inputs and outputs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import ModelProto, TensorProto, helper

from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.graph.analysis.opened import OpenedGraph

ADDED_BIAS = ".added_bias"  # in the name of a bias that quantising added to a convolution without one
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Description:
    """A readable summary of one ONNX file."""

    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    parameters: int
    weight_bytes: int


def describe(opened: OpenedGraph) -> Description:
    """Summarise an ONNX file."""
    model = opened.model
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
    """List the initializers that are weights.

    These are floating-point numbers and, in a quantised graph, the integers or 8-bit floats that DequantizeLinear
    restores. The scales and zero points of a quantised graph are not weights, nor are biases that quantising added.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    about = {name for node in pairs for name in node.input[1:]}
    restored = {node.input[0] for node in pairs}
    return [
        tensor
        for name, tensor in tensors.items()
        if name not in about and ADDED_BIAS not in name and (name in restored or tensor.data_type in _FLOATS)
    ]


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
