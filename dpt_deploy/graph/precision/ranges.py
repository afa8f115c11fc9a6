"""How large every tensor of a graph becomes: a copy of the graph returns its largest magnitudes, and nothing else.

The reduction runs inside the graph, so that any number of images of any size costs the memory of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.graph.describe import read_graph
from dpt_deploy.graph.mark import float_tensors

OUTPUT = "largest magnitudes"  # a name no module has


@dataclass(frozen=True)
class Probe:
    """A graph that returns, as the one vector :data:`OUTPUT`, the largest magnitude of each of ``tensors``."""

    path: Path
    tensors: tuple[str, ...]


def write_probe(source: Path, target: Path) -> Probe:
    """Write to ``target`` the graph of ``source`` (FP32) with its tensors' largest magnitudes as its only output.

    Weights in a file of their own are referred to by name: that file must stand beside ``target``.

    Raises:
        BadFileError: not an ONNX file.
    """
    model = read_graph(source)
    tensors = [*(entry.name for entry in model.graph.input), *float_tensors(model)]
    parts = []
    for index, name in enumerate(tensors):
        magnitude, largest, part = (f"{OUTPUT}/{kind}{index}" for kind in ("abs", "max", "part"))
        model.graph.node.extend(
            [
                helper.make_node("Cast", [name], [f"{magnitude}.in"], to=TensorProto.FLOAT),
                helper.make_node("Abs", [f"{magnitude}.in"], [magnitude]),
                helper.make_node("ReduceMax", [magnitude], [largest], keepdims=0),
                helper.make_node("Reshape", [largest, f"{OUTPUT}/one"], [part]),
            ]
        )
        parts.append(part)
    model.graph.initializer.append(helper.make_tensor(f"{OUTPUT}/one", TensorProto.INT64, [1], [1]))
    model.graph.node.append(helper.make_node("Concat", parts, [OUTPUT], axis=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [len(tensors)]))
    onnx.save(model, target)
    return Probe(target, tuple(tensors))


class Ranges:
    """Largest magnitude of each tensor over all images seen, in any order."""

    def __init__(self, probe: Probe) -> None:
        self._tensors = probe.tensors
        self._largest = np.zeros(len(probe.tensors), np.float32)
        self.images = 0

    def add(self, largest: np.ndarray, images: int = 1) -> None:
        """Hear of a run on ``images`` images.

        Raises:
            BadFileError: a tensor is not finite, named.
        """
        broken = np.flatnonzero(~np.isfinite(largest))
        if len(broken):
            raise BadFileError(
                f"tensor {self._tensors[broken[0]]!r} is {largest[broken[0]]} in FP32 already",
                hint="see `dpt-deploy verify`: the weights or an image are not finite",
            )
        self._largest = np.maximum(self._largest, largest)
        self.images += images

    def to_dict(self) -> dict[str, float]:
        """Tensor to its largest magnitude, in execution order."""
        return {name: float(value) for name, value in zip(self._tensors, self._largest, strict=True)}
