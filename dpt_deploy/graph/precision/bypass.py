"""Leave some activations of a quantised graph unrounded, to measure what rounding them costs.

Weights stay rounded, because the file holds no others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, helper

from dpt_deploy.graph.precision.qdq import BOUND

_MULTIPLIES = ("Conv", "MatMul", "Attention")


@dataclass(frozen=True)
class QuantisationPair:
    """A quantised activation.

    ``tensor`` is its name in the FP32 graph, ``source`` the input of the pair and ``restored`` its output. ``bounded``:
    the pair cuts what lies below zero, because a ReLU became a bound on integers.
    """

    tensor: str
    source: str
    restored: str
    bounded: bool


def pairs(model: ModelProto) -> list[QuantisationPair]:
    """Find the pairs around activations, in execution order. Weights are stored as integers and have no pair."""
    producers = _producers(model)
    found = []
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in producers:
            continue
        inner = producers[node.input[0]]
        bounded = inner.name.endswith(BOUND)
        quantise = producers[inner.input[0]] if inner.op_type == "Clip" else inner
        restored = node.output[0]
        found.append(QuantisationPair(restored.removesuffix(".restored"), quantise.input[0], restored, bounded))
    return found


def quantised_nodes(model: ModelProto) -> list[NodeProto]:
    """Find the nodes that multiply quantised numbers, in execution order."""
    restored = {pair.restored for pair in pairs(model)}
    return [node for node in model.graph.node if node.op_type in _MULTIPLIES and node.input[0] in restored]


def bypass(model: ModelProto, keep: Collection[str], *, outputs: bool) -> None:
    """Let the nodes named in ``keep`` read their activations unrounded (``model`` is changed in place).

    ``outputs``: do not round the outputs of kept nodes either, for formats that quantise outputs.
    """
    producers, found = _producers(model), pairs(model)
    free = {pair.restored for pair in found if outputs and _name(producers.get(pair.source)) in keep}
    by_restored = {pair.restored: pair for pair in found}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            pair = by_restored.get(name)
            if pair is not None and (node.name in keep or name in free):
                node.input[index] = pair.tensor if pair.bounded else pair.source
    for pair in [each for each in found if each.bounded]:
        _add_relu(model, pair)


def _add_relu(model: ModelProto, pair: QuantisationPair) -> None:
    """Add the ReLU that had become a bound, for nodes that bypass the integers."""
    place = next(index for index, node in enumerate(model.graph.node) if pair.source in node.output) + 1
    model.graph.node.insert(place, helper.make_node("Relu", [pair.source], [pair.tensor], name=f"{pair.tensor}/relu"))


def _producers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def _name(node: NodeProto | None) -> str:
    return node.name if node is not None else ""
