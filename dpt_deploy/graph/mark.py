"""Add chosen tensors of a model, or what is computed of them, to its outputs, so that a runner returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from dpt_deploy.graph.analysis.shapes import element_types

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def tensor_names(path: Path) -> list[str]:
    """Names of all tensors that nodes of the graph compute, in execution order."""
    model = onnx.load(path, load_external_data=False)
    return [name for node in model.graph.node for name in node.output if name]


def float_tensors(model: ModelProto) -> list[str]:
    """Names of all floating-point tensors that nodes of the graph compute, in execution order."""
    return _computed(model, (TensorProto.FLOAT, *_HALVES))


def half_tensors(model: ModelProto) -> list[str]:
    """Names of all 16-bit tensors that nodes of the graph compute, in execution order."""
    return _computed(model, _HALVES)


def place_early(graph: GraphProto, own: int) -> None:
    """Move each node after the first ``own`` to where all that it reads has been computed.

    A runner that keeps the order of the file then holds a tensor until its last reader, and not until the end.
    """
    nodes = list(graph.node)
    made = {name for node in nodes for name in node.output}
    missing = [len(made.intersection(node.input)) for node in nodes]
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes[own:], own):
        for name in made.intersection(node.input):
            readers.setdefault(name, []).append(index)
    order: list[int] = []

    def place(index: int) -> None:
        order.append(index)
        for reader in (each for name in nodes[index].output for each in readers.get(name, ())):
            missing[reader] -= 1
            if not missing[reader]:
                place(reader)

    for index in [index for index in range(own, len(nodes)) if not missing[index]]:  # they read inputs only
        place(index)
    for index in range(own):
        place(index)
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)


def _computed(model: ModelProto, kinds: tuple[int, ...]) -> list[str]:
    types = element_types(model)
    names = (name for node in model.graph.node for name in node.output if name)
    return [name for name in names if types[name] in kinds]


def mark_outputs(path: Path, names: Sequence[str], target: Path, types: Mapping[str, int] | None = None) -> None:
    """Write to ``target`` the graph of ``path`` with ``names`` as its outputs, weights left in place.

    ``types`` are the element types of those that are not float32. Weights inside the file are copied. External data is
    referred to by name: its file must be next to ``target``.
    """
    model = onnx.load(path, load_external_data=False)
    have = {output.name: output for output in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(
        have.get(name) or helper.make_tensor_value_info(name, (types or {}).get(name, TensorProto.FLOAT), None)
        for name in names
    )
    onnx.save(model, target)
