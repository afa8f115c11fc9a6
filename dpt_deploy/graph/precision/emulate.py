"""Emulate a typed graph in FP32: evidence about 16 bits from a machine without 16-bit hardware.

ONNX Runtime's CPU computes FP16 graphs in FP32 and has no BF16 kernels, so running the typed file there proves nothing.
The emulation computes in FP32 and casts every 16-bit tensor to its type and back. The casts round to nearest even and
overflow exactly as the type does. Sums inside an operator stay FP32, as in the matrix units of GPUs. A fused GPU kernel
rounds less often than once per tensor; the emulation is then the more pessimistic of the two.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dpt_deploy.artifact.store import EXTERNAL_DATA_BYTES
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.analysis.shapes import element_types

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = {TensorProto.FLOAT, *_NARROW}


def write_emulated(source: Path, target: Path, keep: Collection[str] = ()) -> None:
    """Write to ``target`` the model at ``source`` with every 16-bit tensor as FP32 that is rounded to that type.

    Nodes named in ``keep`` pass their numbers to one another unrounded. Their weights stay rounded, because the file
    holds no others.

    Raises:
        BadFileError: not an ONNX file, or one whose types cannot be inferred.
    """
    model = read_graph(source, weights=True)
    types = element_types(model)
    graph = model.graph
    weights = [_widened(tensor) for tensor in graph.initializer]
    emulator = _Emulator(types, frozenset(keep))
    nodes = [new for node in graph.node for new in emulator.emulate(node)]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(weights)
    graph.node.extend(nodes)
    size = sum(tensor.ByteSize() for tensor in weights)
    onnx.save(model, target, save_as_external_data=size > EXTERNAL_DATA_BYTES, location=f"{target.name}.data")


class _Emulator:
    """Turn nodes, in execution order, into FP32 nodes with a rounding after each 16-bit output."""

    def __init__(self, types: dict[str, int], keep: frozenset[str]) -> None:
        self.types, self.keep = types, keep
        self.exact: dict[str, str] = {}  # output of a kept node to its value before rounding

    def emulate(self, node: NodeProto) -> list[NodeProto]:
        kept = node.name in self.keep
        new = _cast_away(node) if self._only_changes_type(node) else _in_fp32(node)
        if kept:
            for index, name in enumerate(new.input):
                new.input[index] = self.exact.get(name, name)
        after: list[NodeProto] = []
        for index, name in enumerate(node.output):
            kind = self.types.get(name)
            if kind in _NARROW:
                new.output[index] = f"{name}.exact"
                after += _rounding(new.output[index], name, kind, f"{node.name}.round{index}")
                if kept:
                    self.exact[name] = new.output[index]
        return [new, *after]

    def _only_changes_type(self, node: NodeProto) -> bool:
        """Return True if ``node`` casts one floating-point type to another."""
        return node.op_type == "Cast" and {node.attribute[0].i, self.types[node.input[0]]} <= _FLOATS


def _cast_away(node: NodeProto) -> NodeProto:
    return helper.make_node("Identity", list(node.input), list(node.output), name=node.name)


def _in_fp32(node: NodeProto) -> NodeProto:
    """Copy ``node``; its attributes name FP32 instead of 16-bit types."""
    new = NodeProto()
    new.CopyFrom(node)
    for attribute in new.attribute:
        if attribute.name == "to" and attribute.i in _NARROW:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type in _NARROW:
            attribute.t.CopyFrom(_widened(attribute.t))
    return new


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type not in _NARROW:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounding(source: str, target: str, kind: int, name: str) -> list[NodeProto]:
    """Make the nodes that round ``source`` to ``kind`` and store it in ``target``; both are FP32."""
    narrow = f"{target}.narrow"
    return [
        helper.make_node("Cast", [source], [narrow], name=f"{name}.down", to=kind),
        helper.make_node("Cast", [narrow], [target], name=f"{name}.up", to=TensorProto.FLOAT),
    ]
