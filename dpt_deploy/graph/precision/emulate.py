"""A typed graph in FP32 that rounds as the types say: evidence about precision from a machine without such hardware.

ONNX Runtime's CPU computes FP16 graphs in FP32 and has no BF16 kernels, so to run the typed file there proves nothing.
Here every 16-bit tensor becomes FP32 followed by a cast to its type and back, which rounds to nearest even and
overflows exactly as the type does. Inside an operator sums stay FP32, as they do in the matrix units of GPUs; where a
GPU kernel rounds less often than once a tensor, because it was fused, the emulation is the more pessimistic.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dpt_deploy.artifact.store import EXTERNAL_DATA_BYTES
from dpt_deploy.graph.analysis.describe import element_types, read_graph

_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = {TensorProto.FLOAT, *_NARROW}


def write_emulated(source: Path, target: Path, keep: Collection[str] = ()) -> None:
    """Write to ``target`` the model at ``source`` with every 16-bit tensor as FP32 that is rounded to that type.

    Nodes named in ``keep`` are islands of a moment: they hand their numbers to one another unrounded. (Their weights
    stay rounded: the file holds no others.)

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
    """Turns nodes, in execution order, into FP32 ones with a rounding after each 16-bit output."""

    def __init__(self, types: dict[str, int], keep: frozenset[str]) -> None:
        self.types, self.keep = types, keep
        self.exact: dict[str, str] = {}  # tensor of a kept node to the same before rounding

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
        """Whether ``node`` casts one floating-point type to another."""
        return node.op_type == "Cast" and {node.attribute[0].i, self.types[node.input[0]]} <= _FLOATS


def _cast_away(node: NodeProto) -> NodeProto:
    return helper.make_node("Identity", list(node.input), list(node.output), name=node.name)


def _in_fp32(node: NodeProto) -> NodeProto:
    """A copy of ``node`` whose attributes ask for FP32 where they asked for 16 bits."""
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
    """``target`` is ``source`` rounded to ``kind``; both are FP32."""
    narrow = f"{target}.narrow"
    return [
        helper.make_node("Cast", [source], [narrow], name=f"{name}.down", to=kind),
        helper.make_node("Cast", [narrow], [target], name=f"{name}.up", to=TensorProto.FLOAT),
    ]
