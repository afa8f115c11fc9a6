"""Add chosen tensors of a model to its outputs, so that a runner returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper

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
