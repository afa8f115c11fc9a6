"""Count the arithmetic operations of a graph at a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx import NodeProto

from dpt_deploy.core.size import Size
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.analysis.shapes import Shapes


@dataclass(frozen=True)
class Operations:
    """Arithmetic operations of one run. ``attention`` is the part that grows with the square of the pixel count."""

    total: int
    attention: int


def count_operations(opened: OpenedGraph, size: Size, batch: int = 1) -> Operations:
    """Count the operations of one run at ``size``: two per multiply-add of convolutions, matrix products, attention.

    Element-wise work and interpolation are left out, as is usual.
    """
    graph = opened.at(size, batch)
    counted = [(node, _node_operations(node, graph.shapes)) for node in graph.nodes]
    attention = sum(count for node, count in counted if _is_attention(node, graph.shapes))
    return Operations(total=sum(count for _, count in counted), attention=attention)


def operations_of_nodes(opened: OpenedGraph, size: Size, batch: int = 1) -> dict[str, int]:
    """Count the operations of each node of one run at ``size``; nodes without any are left out."""
    graph = opened.at(size, batch)
    counted = {node.name: _node_operations(node, graph.shapes) for node in graph.nodes}
    return {name: count for name, count in counted.items() if count}


def _is_attention(node: NodeProto, shapes: Shapes) -> bool:
    """Recognise scores and weighted sums: Attention, or a product of two four-dimensional activations."""
    if node.op_type != "MatMul":
        return node.op_type == "Attention"
    return all(len(shapes[name]) == 4 for name in node.input)  # (batch, heads, tokens, features)


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
