"""What a graph is without its weights, and what these are, in digests: whether two files differ in weights alone.

Weights are floating-point numbers and, in a graph of 8 bits, the integers and 8-bit floats of its pairs; a builder
of engines keeps them apart from the graph. Wider integers are axes, shapes and indices: they say what is computed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from dpt_deploy.graph.analysis.describe import read_graph

DIGITS = 16  # of a weight's SHA-256: enough to tell a change, not to prove an origin
_CONSTANTS = (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)


@dataclass(frozen=True)
class Fingerprint:
    """``graph`` is the digest of everything but the weights' values; ``weights`` has one for each weight's."""

    graph: str
    weights: dict[str, str]


def fingerprint(path: Path) -> Fingerprint:
    """The digests of the file at ``path``; external weights are read one at a time.

    Raises:
        BadFileError: not an ONNX file.
    """
    model = read_graph(path)
    weights = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor, base_dir=str(path.parent))
        if tensor.data_type in _CONSTANTS:
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))  # however the file stores them
        else:
            weights[tensor.name] = hashlib.sha256(values.tobytes()).hexdigest()[:DIGITS]
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    return Fingerprint(_digest_of(model), weights)


def _digest_of(model: ModelProto) -> str:
    """Of what is left: operators, names, shapes, constants and versions of operators; not who wrote the file."""
    found = hashlib.sha256()
    for opset in sorted((entry.domain, entry.version) for entry in model.opset_import):
        found.update(repr(opset).encode())
    for part in _parts(model.graph):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _parts(graph: GraphProto) -> list[bytes]:
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in (*graph.input, *graph.output):
        value.ClearField("metadata_props")
    tensors = sorted(graph.initializer, key=lambda tensor: tensor.name)
    entries = (*graph.node, *graph.input, *graph.output, *tensors)
    return [entry.SerializeToString(deterministic=True) for entry in entries]
