"""Choose the nodes of a 16-bit graph that stay FP32: by module name, by operator, or by the range of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from onnx import GraphProto, NodeProto

from dpt_deploy.core.precision import find_precision
from dpt_deploy.graph.analysis.opened import read_graph

HEADROOM = 8.0  # times the largest magnitude must fit: other images, sizes and fused kernels give larger ones

# Operators that a builder cannot compute, by element type.
_UNSUPPORTED = {"BFLOAT16": {"ConvTranspose": "TensorRT-RTX 1.7.1 cannot infer the type of a deconvolution in BF16"}}


_NONE: Mapping[str, str] = MappingProxyType({})


def choose_fp32_nodes(
    path: Path,
    precision: str,
    ranges: Mapping[str, float],
    tails: Mapping[str, str],
    alone: Mapping[str, str] = _NONE,
) -> dict[str, str]:
    """Map each node that stays FP32 to the reason.

    Args:
        path: the FP32 graph.
        precision: the 16-bit precision.
        ranges: the largest magnitude measured of each tensor.
        tails: modules from which on, to the end of the graph, numbers need FP32, each with the reason.
        alone: modules whose own nodes need FP32, but nothing behind them, each with the reason.
    """
    graph = read_graph(path).graph
    chosen, kind = _by_name(graph, tails), find_precision(precision)
    unsupported = _UNSUPPORTED.get(kind.float_type, {})
    for node in graph.node:
        if reason := alone.get(node.name.rpartition("/")[0]):
            chosen.setdefault(node.name, reason)
        if reason := unsupported.get(node.op_type):
            chosen.setdefault(node.name, reason)
    for name, reason in _by_range(graph, kind.largest_float / HEADROOM, ranges).items():
        chosen.setdefault(name, reason)
    return chosen


def _by_name(graph: GraphProto, tails: Mapping[str, str]) -> dict[str, str]:
    """Choose each module of ``tails``, and every node downstream of it."""
    chosen: dict[str, str] = {}
    reasons: dict[str, str] = {}  # of tensors
    for node in graph.node:
        module = node.name.rpartition("/")[0]
        inherited = [reasons[name] for name in node.input if name in reasons]
        reason = next(iter(inherited), None) or tails.get(module)
        if reason:
            chosen[node.name] = reason
            reasons.update(dict.fromkeys(node.output, reason))
    return chosen


def _by_range(graph: GraphProto, limit: float, ranges: Mapping[str, float]) -> dict[str, str]:
    """Choose the producers and consumers of tensors above ``limit``."""
    large = {name: value for name, value in ranges.items() if value > limit}
    return {node.name: _reason(node, large) for node in graph.node if _touches(node, large)}


def _touches(node: NodeProto, large: Mapping[str, float]) -> bool:
    return any(name in large for name in (*node.input, *node.output))


def _reason(node: NodeProto, large: Mapping[str, float]) -> str:
    name = max((name for name in (*node.output, *node.input) if name in large), key=lambda name: large[name])
    return f"{name} reaches {large[name]:.3g}"
