"""Digests of a graph without its weights, and of each weight: two files may differ in their weights alone.

Weights are floating-point numbers and, in an 8-bit graph, the integers and 8-bit floats that are dequantised; an
engine builder keeps them apart from the graph. Wider integers are axes, shapes and indices: they belong to the graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from dpt_deploy.graph.analysis.opened import OpenedGraph

DIGITS = 16  # of a weight's SHA-256: enough to notice a change, not to prove an origin
_CONSTANTS = (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
_Entry = TypeVar("_Entry", NodeProto, ValueInfoProto)


@dataclass(frozen=True)
class Fingerprint:
    """``graph`` is the digest of everything but the values of the weights; ``weights`` has one digest for each."""

    graph: str
    weights: dict[str, str]


def fingerprint(opened: OpenedGraph) -> Fingerprint:
    """Compute the digests of an ONNX file; external weights are read one at a time."""
    weights, tensors = {}, []
    for tensor in opened.model.graph.initializer:
        values = numpy_helper.to_array(tensor, base_dir=str(opened.path.parent))
        if tensor.data_type in _CONSTANTS:  # serialised in one form, whatever form the file stores them in
            tensors.append(numpy_helper.from_array(values, tensor.name))
        else:
            weights[tensor.name] = hashlib.sha256(values.tobytes()).hexdigest()[:DIGITS]
            tensors.append(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return Fingerprint(_digest_of(opened.model, tensors), weights)


def _digest_of(model: ModelProto, tensors: Iterable[TensorProto]) -> str:
    """Digest of operators, names, shapes, constants and opsets; not of the file's origin."""
    found = hashlib.sha256()
    for opset in sorted((entry.domain, entry.version) for entry in model.opset_import):
        found.update(repr(opset).encode())
    for part in _parts(model, tensors):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _parts(model: ModelProto, tensors: Iterable[TensorProto]) -> list[bytes]:
    graph = model.graph
    nodes = [_without(node, "doc_string", "metadata_props") for node in graph.node]
    values = [_without(value, "metadata_props") for value in (*graph.input, *graph.output)]
    entries = (*nodes, *values, *sorted(tensors, key=lambda tensor: tensor.name))
    return [entry.SerializeToString(deterministic=True) for entry in entries]


def _without(entry: _Entry, *fields: str) -> _Entry:
    copy = type(entry)()
    copy.CopyFrom(entry)
    for field in fields:
        copy.ClearField(field)
    return copy
