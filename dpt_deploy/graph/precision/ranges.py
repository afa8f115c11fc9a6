"""Measure the largest magnitude of every tensor: a copy of the graph returns them, with samples of chosen tensors.

The reduction runs inside the graph, so any number of images of any size costs the memory of one; a runner that keeps
the order of the file also frees a tensor after its last reader. A sample is every eleventh number of a tensor: enough
for a histogram at a tenth of the memory. Eleven divides no usual channel count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.mark import float_tensors, place_early

OUTPUT = "largest magnitudes"  # a name no module has
BOUNDS = "bounds"
STRIDE = 11  # of samples


@dataclass(frozen=True)
class Probe:
    """A graph with extra outputs.

    The vector :data:`OUTPUT` holds the largest magnitude of each of ``tensors``. One more output for each name in
    ``sampled`` holds a sample of that tensor, and :data:`BOUNDS` holds their least and largest numbers, all of the
    former first.
    """

    path: Path
    tensors: tuple[str, ...]
    sampled: tuple[str, ...] = ()

    def samples(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Map each sampled tensor to its sample, taken from the outputs of the graph."""
        return {name: outputs[_sample(index)] for index, name in enumerate(self.sampled)}

    def bounds(self, outputs: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
        """Map each sampled tensor to its least and largest number, taken from the outputs of the graph."""
        if not self.sampled:
            return {}
        pairs = outputs[BOUNDS].reshape(2, -1).T.tolist()
        return {name: (low, high) for name, (low, high) in zip(self.sampled, pairs, strict=True)}


def write_probe(source: Path, target: Path, sampled: Sequence[str] = ()) -> Probe:
    """Write to ``target`` the graph of ``source`` (FP32) with its tensors' largest magnitudes and samples as outputs.

    External weights are referred to by name: their file must be in the folder of ``target``.

    Raises:
        BadFileError: not an ONNX file.
    """
    model = read_graph(source)
    own = len(model.graph.node)
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
    _add_samples(model, sampled)
    place_early(model.graph, own)
    onnx.save(model, target)
    return Probe(target, tuple(tensors), tuple(sampled))


def _add_samples(model: ModelProto, sampled: Sequence[str]) -> None:
    for name, values in (("flat", [-1]), ("start", [0]), ("end", [np.iinfo(np.int64).max]), ("stride", [STRIDE])):
        model.graph.initializer.append(helper.make_tensor(f"{OUTPUT}/{name}", TensorProto.INT64, [1], values))
    for index, name in enumerate(sampled):
        flat, sample = f"{OUTPUT}/flat{index}", _sample(index)
        start, end, stride = (f"{OUTPUT}/{part}" for part in ("start", "end", "stride"))
        model.graph.node.extend(
            [
                helper.make_node("Reshape", [name, f"{OUTPUT}/flat"], [flat]),
                helper.make_node("Slice", [flat, start, end, start, stride], [sample]),
            ]
        )
        model.graph.output.append(helper.make_tensor_value_info(sample, TensorProto.FLOAT, [None]))
    if sampled:
        _add_bounds(model, sampled)


def _add_bounds(model: ModelProto, sampled: Sequence[str]) -> None:
    parts = []
    for operator in ("ReduceMin", "ReduceMax"):
        for index, name in enumerate(sampled):
            bound, part = (f"{OUTPUT}/{operator}{kind}{index}" for kind in ("", "/part"))
            model.graph.node.append(helper.make_node(operator, [name], [bound], keepdims=0))
            model.graph.node.append(helper.make_node("Reshape", [bound, f"{OUTPUT}/one"], [part]))
            parts.append(part)
    model.graph.node.append(helper.make_node("Concat", parts, [BOUNDS], axis=0))
    model.graph.output.append(helper.make_tensor_value_info(BOUNDS, TensorProto.FLOAT, [len(parts)]))


def _sample(index: int) -> str:
    return f"sample {index}"


class Ranges:
    """Largest magnitude of each tensor over all images, in any order."""

    def __init__(self, probe: Probe) -> None:
        self._tensors = probe.tensors
        self._largest = np.zeros(len(probe.tensors), np.float32)
        self.images = 0

    def add(self, largest: np.ndarray, images: int = 1) -> None:
        """Add the result of a run on ``images`` images.

        Raises:
            BadFileError: a tensor is not finite; the message names it.
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
        """Map each tensor to its largest magnitude, in execution order."""
        return {name: float(value) for name, value in zip(self._tensors, self._largest, strict=True)}
