"""Predict the peak memory of the tensors of a graph, before anything is fused."""

from __future__ import annotations

import math

from onnx import NodeProto, TensorProto, helper

from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.shapes import Shapes

# Operators that return their input in another shape.
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def peak_activation_bytes(opened: OpenedGraph, size: Size, batch: int = 1) -> int:
    """Bytes that are alive at once, at most, when the nodes run in the order of the file.

    An engine that fuses nodes needs less; one that keeps workspaces for its kernels needs more. FP32 attention counts
    with its scores, because no fused kernel computes it.

    Raises:
        BadFileError: the type of a tensor cannot be inferred.
    """
    graph = opened.at(size, batch)
    nodes, shapes = graph.nodes, graph.shapes
    sizes = _tensor_bytes(opened, shapes)
    last_use = {name: index for index, node in enumerate(nodes) for name in node.input}
    made_inside = {name for node in nodes for name in node.output}
    alive = peak = sum(sizes.get(name, 0) for name in last_use if name not in made_inside)  # the input
    for index, node in enumerate(nodes):
        made = 0 if node.op_type in _VIEWS else sum(sizes.get(name, 0) for name in node.output)
        alive += made
        peak = max(peak, alive + _scores_bytes(node, shapes, sizes))
        freed = {name for name in node.input if last_use[name] == index}
        alive -= 0 if node.op_type in _VIEWS else sum(sizes.get(name, 0) for name in freed)
    return peak


def _tensor_bytes(opened: OpenedGraph, shapes: Shapes) -> dict[str, int]:
    """Bytes of every tensor that is computed; weights are not counted."""
    weights = {tensor.name for tensor in opened.model.graph.initializer}
    return {
        name: math.prod(shapes[name]) * helper.tensor_dtype_to_np_dtype(kind).itemsize
        for name, kind in opened.types.items()
        if name in shapes and name not in weights and kind
    }


def _scores_bytes(node: NodeProto, shapes: Shapes, sizes: dict[str, int]) -> int:
    """Bytes of the scores and their softmax, for attention that is not fused."""
    if node.op_type != "Attention":
        return 0
    query, key = node.input[0], node.input[1]
    elements = math.prod(shapes[query])
    if sizes[query] // max(1, elements) < helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT).itemsize:
        return 0
    return 2 * sizes[query] // shapes[query][-1] * shapes[key][-2]  # (B, heads, N, M), twice
