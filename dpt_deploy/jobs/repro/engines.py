"""The graph of an artefact in an engine that shows every tensor, and the tensors whose right values are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.runner import Tensors
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.analysis.shapes import element_types
from dpt_deploy.graph.mark import mark_outputs
from dpt_deploy.graph.pieces import FLOATS, save_model
from dpt_deploy.graph.precision.emulate import write_emulated
from dpt_deploy.jobs.common.inputs import reference_input
from dpt_deploy.jobs.common.reference import reference_of
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.verify.locate import matching_tensors, module_outputs
from dpt_deploy.model.rewrites.registry import exactly_rewritten
from dpt_deploy.runtime.registry import find_runtime

Values = dict[str, np.ndarray]


class EngineGraph:
    """``model`` in ``runtime``, as a program without its sidecar runs it. It writes its files to ``folder``."""

    def __init__(self, model: ModelProto, runtime: str, folder: Path) -> None:
        self.model, self.runtime, self._folder = model, runtime, folder
        self.types = element_types(model)
        folder.mkdir()
        self._path = folder / "graph.onnx"
        save_model(model, self._path)

    def tensors(self, inputs: Tensors, names: Sequence[str]) -> Values:
        """Values of the named tensors; 16-bit ones become float32."""
        if not names:
            return {}
        mark_outputs(self._path, names, self._folder / "marked.onnx", self.types)
        with open_runner(self._folder / "marked.onnx", self.runtime) as runner:
            found = runner.infer(inputs)
        floats = {name for name in names if self.types[name] in FLOATS}
        return {name: value.astype(np.float32) if name in floats else value for name, value in found.items()}

    def run_piece(self, piece: ModelProto, inputs: Tensors) -> np.ndarray:
        """The output of a piece of the graph."""
        path = self._folder / "piece.onnx"
        for old in self._folder.glob("piece.onnx*"):
            old.unlink()
        save_model(piece, path)
        with open_runner(path, self.runtime) as runner:
            (output,) = runner.infer(inputs).values()
        return output


@dataclass(frozen=True)
class KnownTensors:
    """Tensors of a graph whose right values can be computed: ``names`` in execution order.

    ``values`` may leave names out. ``source`` says in words what computes them.
    """

    names: tuple[str, ...]
    values: Callable[[Sequence[str]], Values]
    source: str


def evidence_graph(artifact: Artifact, folder: Path) -> EngineGraph:
    """The graph in ONNX Runtime; the types of a 16- or 8-bit one are emulated."""
    if not find_runtime(reference_runtime(artifact.sidecar)).emulates:
        return EngineGraph(read_graph(artifact.path, weights=True), "ort", folder)
    emulated = folder.with_name(f"{folder.name}-emulated.onnx")
    write_emulated(artifact.path, emulated)
    return EngineGraph(read_graph(emulated, weights=True), "ort", folder)


def known_from_pytorch(
    artifact: Artifact, output: OutputRecord, images: np.ndarray, weights: str | None
) -> KnownTensors:
    """Outputs of modules of the PyTorch network, rewritten as it was exported.

    Raises:
        BadFileError: the checkpoint is missing, or not the one that was exported.
    """
    module = exactly_rewritten(reference_of(artifact.sidecar, weights))
    modules = {tensor: name for name, tensor in matching_tensors(artifact, module, output).items()}
    inputs = reference_input(artifact.sidecar, images)

    def values(names: Sequence[str]) -> Values:
        found = module_outputs(module, inputs, [modules[name] for name in names])
        return {name: found[modules[name]] for name in names if modules[name] in found}

    return KnownTensors(tuple(modules), values, "PyTorch")


def known_from_evidence(graph: ModelProto, evidence: EngineGraph, inputs: Tensors) -> KnownTensors:
    """Every floating-point tensor of ``graph`` that depends on its image, from the graph that is evidence."""
    names = tuple(name for name in _from_image(graph) if evidence.types.get(name) in FLOATS)
    return KnownTensors(names, lambda wanted: evidence.tensors(inputs, wanted), "the reference runtime")


def _from_image(graph: ModelProto) -> list[str]:
    """The tensors that depend on an input, in execution order; restored weights, for example, do not."""
    found = {entry.name: None for entry in graph.graph.input}
    inputs = len(found)
    for node in graph.graph.node:
        if any(name in found for name in node.input):
            found.update(dict.fromkeys(filter(None, node.output)))
    return list(found)[inputs:]
