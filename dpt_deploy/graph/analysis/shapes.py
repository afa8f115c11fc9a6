"""Infer the type of every tensor of a graph, and the shape of every tensor at one input size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size

Shapes = dict[str, list[int]]
Constants = dict[str, np.ndarray]

_SHAPE_NUMBERS = 16  # sizes, scales, axes: an initializer of so few elements may steer a shape


@dataclass(frozen=True)
class ShapedGraph:
    """The nodes of a graph in execution order, without the arithmetic on shapes, and the shape of every tensor.

    GroupNormalization is replaced by Identity.
    """

    nodes: tuple[NodeProto, ...]
    shapes: Shapes


def infer_shapes(model: ModelProto, size: Size, batch: int = 1) -> ShapedGraph:
    """Infer every shape for ``batch`` images of ``size``; ``model`` is not changed."""
    model = without_weights(model)
    _fix_input(model, size, batch)
    _bridge_gaps(model)
    shapes = _fold_shapes(model)
    return ShapedGraph(tuple(model.graph.node), shapes)


def element_types(model: ModelProto) -> dict[str, int]:
    """Map each tensor to its element type (``TensorProto.FLOAT``, …), inferred where the graph does not state it.

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
    """Copy a graph with its large weights as inputs: inference needs their types and shapes, not their values."""
    large = [tensor for tensor in model.graph.initializer if math.prod(tensor.dims) > _SHAPE_NUMBERS]
    small = [tensor for tensor in model.graph.initializer if math.prod(tensor.dims) <= _SHAPE_NUMBERS]
    weights = [helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in large]
    graph = helper.make_graph(
        model.graph.node, "types", [*model.graph.input, *weights], model.graph.output, initializer=small
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _fix_input(model: ModelProto, size: Size, batch: int) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    channels_last = dims[-1].dim_value == 3
    wanted = [batch, size.height, size.width, 3] if channels_last else [batch, 3, size.height, size.width]
    for dim, value in zip(dims, wanted, strict=True):
        dim.dim_value = value
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _bridge_gaps(model: ModelProto) -> None:
    """Replace GroupNormalization, whose output ONNX's inference does not shape, by an Identity of its input."""
    for node in model.graph.node:
        if node.op_type == "GroupNormalization":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def _fold_shapes(model: ModelProto) -> Shapes:
    """Shape inference that also folds the integer arithmetic on shapes which ONNX's own propagation does not know."""
    constants: Constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    while True:
        shapes = _known_shapes(shape_inference.infer_shapes(model, data_prop=True))
        fresh = _fold_integers(model, shapes, constants)
        if not fresh:
            return shapes
        constants.update(fresh)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in fresh.items())
        folded = [node for node in model.graph.node if node.output[0] not in constants]
        del model.graph.node[:]
        model.graph.node.extend(folded)


def _known_shapes(model: ModelProto) -> Shapes:
    graph = model.graph
    shapes: Shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _fold_integers(model: ModelProto, shapes: Shapes, constants: Constants) -> Constants:
    fresh: Constants = {}
    for node in model.graph.node:
        known = {**constants, **fresh}
        if node.op_type == "Shape" and node.input[0] in shapes:
            inputs = {node.input[0]: np.empty(shapes[node.input[0]], dtype=np.bool_)}
        elif all(not name or (name in known and known[name].dtype == np.int64) for name in node.input):
            inputs = {name: known[name] for name in node.input if name}
        else:
            continue
        if node.op_type != "Constant" or node.attribute[0].t.data_type == TensorProto.INT64:
            fresh[node.output[0]] = _evaluate(node, inputs, model)
    return fresh


def _evaluate(node: NodeProto, inputs: Constants, model: ModelProto) -> np.ndarray:
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    output = onnx.ValueInfoProto(name=node.output[0])
    graph = helper.make_graph([node], "node", declared, [output])
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    outputs: Any = ReferenceEvaluator(single).run(None, inputs)
    return np.asarray(outputs[0])
