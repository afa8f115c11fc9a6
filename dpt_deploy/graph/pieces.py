"""Cut a piece out of a graph that runs by itself: the nodes between tensors that are handed in and one that comes out.

Whatever the nodes compute about sizes (integers and truth values) becomes a constant, so a piece takes one size only.
All its ends are float32: 16-bit tensors are cast just inside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dpt_deploy.artifact.store import EXTERNAL_DATA_BYTES

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INDICES = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
_INNER = "/typed"  # ends the name that a 16-bit end has inside the piece


@dataclass(frozen=True)
class Cut:
    """The place of a piece in its graph.

    ``nodes`` are positions in the graph, in execution order. ``inputs`` are handed in, ``constants`` become weights.
    """

    output: str
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    constants: tuple[str, ...]


def find_cut(model: ModelProto, output: str, given: Collection[str], types: Mapping[str, int]) -> Cut:
    """The piece that computes ``output`` from those of the ``given`` tensors that come last, and from graph inputs."""
    producer = {name: index for index, node in enumerate(model.graph.node) for name in node.output if name}
    nodes, inputs, constants = {producer[output]}, set(), set()
    waiting = list(model.graph.node[producer[output]].input)
    while waiting:
        name = waiting.pop()
        if name not in producer:
            continue
        if name in given:
            inputs.add(name)
        elif types[name] in _INDICES:
            constants.add(name)
        elif producer[name] not in nodes:
            nodes.add(producer[name])
            waiting += model.graph.node[producer[name]].input
    used = {name for index in nodes for name in model.graph.node[index].input}
    inputs |= {entry.name for entry in model.graph.input if entry.name in used}
    return Cut(output, tuple(sorted(nodes)), tuple(sorted(inputs)), tuple(sorted(constants)))


def build_piece(
    model: ModelProto, cut: Cut, values: Mapping[str, np.ndarray], shape: tuple[int, ...], types: Mapping[str, int]
) -> ModelProto:
    """The piece at ``cut`` as a model: inputs have the shapes of ``values``, its output has ``shape``.

    ``values`` hold the inputs and the constants of the cut.
    """
    inner = {name: name + _INNER for name in (*cut.inputs, cut.output) if types[name] in FLOATS[1:]}
    before = [helper.make_node("Cast", [name], [inner[name]], to=types[name]) for name in cut.inputs if name in inner]
    nodes = [_renamed(model.graph.node[index], inner) for index in cut.nodes]
    if cut.output in inner:
        nodes.append(helper.make_node("Cast", [inner[cut.output]], [cut.output], to=TensorProto.FLOAT))
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    weights += [numpy_helper.from_array(np.asarray(values[name]), name) for name in cut.constants]

    def end(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT if name in inner else types[name], dims)

    inputs = [end(name, values[name].shape) for name in cut.inputs]
    graph = helper.make_graph([*before, *nodes], "piece", inputs, [end(cut.output, shape)], weights)
    return anonymous(helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version))


def anonymous(model: ModelProto) -> ModelProto:
    """A copy of ``model`` without texts that may name files, people or machines; names of tensors stay."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.doc_string = copy.graph.doc_string = ""
    del copy.metadata_props[:], copy.graph.metadata_props[:]
    ends = (*copy.graph.input, *copy.graph.output, *copy.graph.value_info)
    for part in (*copy.graph.node, *copy.graph.initializer, *ends):
        part.doc_string = ""
        del part.metadata_props[:]
    return copy


def save_model(model: ModelProto, path: Path) -> None:
    """Write ``model``; weights that are too large for one file go to ``NAME.data`` next to it."""
    size = sum(tensor.ByteSize() for tensor in model.graph.initializer)
    onnx.save(model, path, save_as_external_data=size > EXTERNAL_DATA_BYTES, location=f"{path.name}.data")


def _renamed(node: NodeProto, inner: Mapping[str, str]) -> NodeProto:
    """Copy ``node`` with the inner names of typed ends."""
    new = NodeProto()
    new.CopyFrom(node)
    new.input[:] = [inner.get(name, name) for name in node.input]
    new.output[:] = [inner.get(name, name) for name in node.output]
    return new
