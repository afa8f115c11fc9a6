"""How much memory the tensors of a graph take at once, before anything is fused."""

from __future__ import annotations

import math
from pathlib import Path

from onnx import NodeProto, TensorProto, helper

from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.describe import element_types, read_graph
from dpt_deploy.graph.analysis.operations import Shapes, shaped_nodes

# Operators whose output is their input, seen through another shape.
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def peak_activation_bytes(path: Path, size: Size, batch: int = 1) -> int:
    """The most that is alive between two nodes when they run in the order of the file.

    An engine that fuses nodes needs less; one that keeps workspaces for its kernels needs more. Attention in FP32
    counts with its scores, because no kernel takes it whole.

    Raises:
        BadFileError: not an ONNX file, or one whose types cannot be inferred.
    """
    nodes, shapes = shaped_nodes(path, size, batch)
    sizes = _tensor_bytes(path, shapes)
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


def _tensor_bytes(path: Path, shapes: Shapes) -> dict[str, int]:
    """Of every tensor that is computed; weights live on their own."""
    model = read_graph(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    types = element_types(model)
    return {
        name: math.prod(shapes[name]) * helper.tensor_dtype_to_np_dtype(kind).itemsize
        for name, kind in types.items()
        if name in shapes and name not in weights and kind
    }


def _scores_bytes(node: NodeProto, shapes: Shapes, sizes: dict[str, int]) -> int:
    """Scores and their softmax of an attention that is computed in parts."""
    if node.op_type != "Attention":
        return 0
    query, key = node.input[0], node.input[1]
    elements = math.prod(shapes[query])
    if sizes[query] // max(1, elements) < helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT).itemsize:
        return 0
    return 2 * sizes[query] // shapes[query][-1] * shapes[key][-2]  # (B, heads, N, M), twice
