"""Make a folder for a report of a defect: the smallest failing piece of a graph, or the whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.folders import check_place, replaced_folder
from dpt_deploy.artifact.records import CaseResult, OutputRecord
from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact, open_model
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.graph.analysis.opened import read_graph
from dpt_deploy.graph.analysis.shapes import element_types
from dpt_deploy.graph.pieces import anonymous
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import reference_runtime
from dpt_deploy.jobs.repro.engines import EngineGraph, evidence_graph, known_from_evidence, known_from_pytorch
from dpt_deploy.jobs.repro.folder import is_repro_folder, write_files
from dpt_deploy.jobs.repro.search import Piece, PieceSearch
from dpt_deploy.jobs.repro.texts import Finding
from dpt_deploy.jobs.verify.base import Reference
from dpt_deploy.jobs.verify.compare import compare, expected_outputs
from dpt_deploy.jobs.verify.references import ArtifactReference, choose_reference
from dpt_deploy.jobs.verify.result import measured_error
from dpt_deploy.runtime.registry import find_runtime

BATCH = 1


@dataclass(frozen=True)
class Repro:
    """A folder that was written, and what it shows."""

    folder: Path
    finding: Finding


def write_repro(
    path: Path | str,
    out: Path | str,
    *,
    size: Sequence[Size] = (),
    whole: bool = False,
    runtime: str | None = None,
    weights: str | None = None,
    force: bool = False,
) -> Repro:
    """Write a folder that shows by itself where the ONNX file at ``path`` is computed wrong.

    The sizes are those of the recipe by default, with batch 1; the first that fails counts. The right values are those
    of PyTorch. With a ``runtime`` other than the one whose numbers are evidence, it is that one's defect that is looked
    for: right is then what the evidence computes from the same file. ``whole`` writes the whole graph, also of a file
    that is right. ``weights`` is the place of the artefact's checkpoint, if it was moved.

    Raises:
        UsageError: the file is right at every size and ``whole`` is not set, a size that it does not take, an engine as
            runtime, or ``out`` holds something else.
        BadFileError: the artefact or its checkpoint is missing or damaged.
        ResourceError: disk or memory.
    """
    out = Path(out)
    check_place(out, "a folder of this command", is_kind=is_repro_folder, force=force)
    artifact = open_model(path)
    evidence = reference_runtime(artifact.sidecar)
    runtime = runtime or evidence
    if PLAN in find_runtime(runtime).runs or find_runtime(runtime).served:
        raise UsageError(
            f"runtime {runtime!r} shows no tensor of a graph", hint="write the whole graph, to run it there: --whole"
        )
    same = runtime == evidence
    reference = choose_reference(artifact, weights=weights) if same else ArtifactReference(artifact, artifact)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        job = _Job(artifact, runtime, evidence, weights, stack.enter_context(reference), folder)
        finding = job.find(size, whole=whole)
        with replaced_folder(out) as new:
            write_files(finding, new)
    return Repro(out, finding)


@dataclass(frozen=True)
class _Job:
    """One artefact, in one runtime, against an open reference."""

    artifact: Artifact
    runtime: str
    evidence: str
    weights: str | None
    reference: Reference
    folder: Path

    def find(self, sizes: Sequence[Size], *, whole: bool) -> Finding:
        """The first failing case and its piece; the whole graph where it was asked for, or no piece fails alone."""
        cases = [(batch, size) for batch, size in self.reference.cases(tuple(sizes), (BATCH,))]
        candidate = self._candidate()
        for _, size in cases:
            images = self.reference.images(BATCH, size)
            case, output = self._compared(candidate, images, size)
            say(f"{size}: {'pass' if case.passed else 'FAIL'}")
            if not case.passed:
                break
        if case.passed and not whole:
            raise UsageError(
                f"{self.artifact.path.name} is computed right in {self.runtime} at "
                f"{', '.join(str(size) for _, size in cases)}: it has no failing piece",
                hint="write the whole graph with --whole, or name another --runtime or --size",
            )
        piece = None if whole or case.passed else self._piece(candidate, images, output)
        if piece is None and not (whole or case.passed):
            say("no piece fails by itself: the folder has the whole graph")
        return self._finding(piece or self._whole(images, case), case, output)

    def _candidate(self) -> EngineGraph:
        if self.runtime == self.evidence:
            return evidence_graph(self.artifact, self.folder / "evidence")
        return EngineGraph(read_graph(self.artifact.path, weights=True), self.runtime, self.folder / "candidate")

    def _compared(self, candidate: EngineGraph, images: np.ndarray, size: Size) -> tuple[CaseResult, OutputRecord]:
        """The worst output, or the first that fails."""
        found = candidate.tensors(self._inputs(images), [output.name for output in self.artifact.sidecar.outputs])
        right = self.reference.outputs(images)
        results = []
        for output in expected_outputs(self.artifact.sidecar):
            case = compare(found[output.name], right[output.name], output, batch=BATCH, size=size)
            results.append((case if case.passed else self.reference.again(case), output))
        return next((each for each in results if not each[0].passed), results[0])

    def _inputs(self, images: np.ndarray) -> Tensors:
        return model_inputs(self.artifact.sidecar, images)

    def _piece(self, candidate: EngineGraph, images: np.ndarray, output: OutputRecord) -> Piece | None:
        original, inputs = read_graph(self.artifact.path, weights=True), self._inputs(images)
        if self.runtime == self.evidence:
            sizes, known = candidate, known_from_pytorch(self.artifact, output, images, self.weights)
        else:
            sizes = evidence_graph(self.artifact, self.folder / "evidence")
            known = known_from_evidence(original, sizes, inputs)
        expected = self.reference.outputs(images)[output.name]
        return PieceSearch(known, candidate, sizes, inputs, output, expected).find(original, element_types(original))

    def _whole(self, images: np.ndarray, case: CaseResult) -> Piece:
        error = (case.max or 0.0, case.mean or 0.0)
        model = anonymous(read_graph(self.artifact.path, weights=True))
        return Piece(model, dict(self._inputs(images)), dict(self.reference.outputs(images)), error)

    def _finding(self, piece: Piece, case: CaseResult, output: OutputRecord) -> Finding:
        allowed = {each.name: each.allowed for each in expected_outputs(self.artifact.sidecar)}
        return Finding(
            sidecar=self.artifact.sidecar,
            runtime=self.runtime,
            source="PyTorch" if self.runtime == self.evidence else f"runtime {self.evidence!r} of the same file",
            size=parse_size(case.size, stride=1),
            passed=case.passed,
            measured="" if case.passed else measured_error(case, output.allowed),
            piece=piece,
            allowed={name: allowed.get(name, output.allowed) for name in piece.expected},
        )
