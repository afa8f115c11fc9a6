"""How many arithmetic operations a graph costs at a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.describe import read_graph, without_weights

Shapes = dict[str, list[int]]
Constants = dict[str, np.ndarray]


@dataclass(frozen=True)
class Operations:
    """Arithmetic of one run. ``attention`` is the part that grows with the square of the number of pixels."""

    total: int
    attention: int


def count_operations(path: Path, size: Size, batch: int = 1) -> Operations:
    """Arithmetic operations of one run at ``size``: two per multiply-add of convolutions, matrix products, attention.

    Element-wise work and interpolation are left out, as is usual.
    """
    nodes, shapes = shaped_nodes(path, size, batch)
    counted = [(node, _node_operations(node, shapes)) for node in nodes]
    attention = sum(count for node, count in counted if _is_attention(node, shapes))
    return Operations(total=sum(count for _, count in counted), attention=attention)


def operations_of_nodes(path: Path, size: Size, batch: int = 1) -> dict[str, int]:
    """The same node by node, of those that cost any."""
    nodes, shapes = shaped_nodes(path, size, batch)
    counted = {node.name: _node_operations(node, shapes) for node in nodes}
    return {name: count for name, count in counted.items() if count}


def shaped_nodes(path: Path, size: Size, batch: int = 1) -> tuple[list[NodeProto], Shapes]:
    """The nodes of a file in execution order, without the arithmetic on shapes, and every tensor's shape at ``size``.

    GroupNormalization stands as Identity in it.
    """
    model = without_weights(read_graph(path))
    _fix_input(model, size, batch)
    _bridge_gaps(model)
    shapes = _infer_shapes(model)
    return list(model.graph.node), shapes


def _is_attention(node: NodeProto, shapes: Shapes) -> bool:
    """Scores and weighted sums: the Attention operator, or a product of two four-dimensional activations."""
    if node.op_type != "MatMul":
        return node.op_type == "Attention"
    return all(len(shapes[name]) == 4 for name in node.input)  # (batch, heads, tokens, features)


def _fix_input(model: ModelProto, size: Size, batch: int) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    channels_last = dims[-1].dim_value == 3
    wanted = [batch, size.height, size.width, 3] if channels_last else [batch, 3, size.height, size.width]
    for dim, value in zip(dims, wanted, strict=True):
        dim.dim_value = value
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _bridge_gaps(model: ModelProto) -> None:
    """GroupNormalization keeps the shape of its input, but ONNX's inference does not say so: stand in an Identity."""
    for node in model.graph.node:
        if node.op_type == "GroupNormalization":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def _infer_shapes(model: ModelProto) -> Shapes:
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
            feed = {node.input[0]: np.empty(shapes[node.input[0]], dtype=np.bool_)}
        elif all(not name or (name in known and known[name].dtype == np.int64) for name in node.input):
            feed = {name: known[name] for name in node.input if name}
        else:
            continue
        if node.op_type != "Constant" or node.attribute[0].t.data_type == TensorProto.INT64:
            fresh[node.output[0]] = _evaluate(node, feed, model)
    return fresh


def _evaluate(node: NodeProto, feed: Constants, model: ModelProto) -> np.ndarray:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feed.items()
    ]
    output = onnx.ValueInfoProto(name=node.output[0])
    graph = helper.make_graph([node], "node", inputs, [output])
    single = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    outputs: Any = ReferenceEvaluator(single).run(None, feed)
    return np.asarray(outputs[0])


def _node_operations(node: NodeProto, shapes: Shapes) -> int:
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = shapes[node.input[1]]
        positions = shapes[node.output[0] if node.op_type == "Conv" else node.input[0]]
        # Conv weight (out, in/group, kh, kw): every output position costs its product; a transposed one per input.
        return 2 * positions[0] * math.prod(positions[2:]) * math.prod(weight)
    if node.op_type in ("MatMul", "Gemm"):
        return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Attention":
        query, key = shapes[node.input[0]], shapes[node.input[1]]
        return 4 * math.prod(query) * key[-2]  # scores and weighted sum: (B, heads, N, d) x (B, heads, M, d)
    return 0
