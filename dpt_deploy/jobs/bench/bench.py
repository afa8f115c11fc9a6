"""Benchmark of an artefact: its runtime, PyTorch, and the plain export of the Hugging Face model, in one run."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import clocks
from dpt_deploy.core.optional import extra, load_attribute
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import candidates as table
from dpt_deploy.jobs.bench.baseline import Baseline, check_machine, comparable, describe, read_baseline
from dpt_deploy.jobs.bench.candidates import CPU, CUDA, find_candidate, graph_of
from dpt_deploy.jobs.bench.case import BenchSetup, MeasuredCase, measure_case
from dpt_deploy.jobs.bench.ceilings import share, side_of
from dpt_deploy.jobs.bench.request import BenchRequest
from dpt_deploy.jobs.bench.result import BenchResult, Case, Row, machine
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.targets import check_target_of
from dpt_deploy.jobs.predict.photo import STEPS
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import ratio

with extra("export", purpose="counting operations"):
    from dpt_deploy.graph.analysis.opened import OpenedGraph
    from dpt_deploy.graph.analysis.operations import count_operations


def open_baseline(path: Path) -> Baseline:
    """Open a recorded run of this kind of machine.

    Raises:
        BadFileError: it cannot be read.
        IncompatibleError: it was recorded on another kind of machine.
    """
    baseline = read_baseline(path)
    check_machine(baseline, machine())
    return baseline


def bench_artifact(artifact: Artifact, request: BenchRequest, *, baseline: Baseline | None = None) -> BenchResult:
    """Time the candidates of ``request`` at each size and batch, interleaved.

    Everything that can be rejected is rejected before anything is timed, also a ``baseline`` that this run could not be
    compared with.

    Raises:
        UsageError: an unknown candidate, or one that cannot run a size.
        BadFileError: the photograph cannot be read, nothing of the baseline is measured, or the model that an engine
            was built from is not next to it.
        IncompatibleError: the baseline is of another model, there is no GPU, or the engine is for another GPU.
    """
    device = request.device or (CUDA if artifact.sidecar.kind == PLAN else CPU)
    _check(artifact, request, device)
    graph = graph_of(artifact)
    if baseline:
        _check_baseline(baseline, artifact, request)
    counted = _counts(graph, request.cases)
    needs_module = any(find_candidate(name).needs_module for name in request.candidates)
    module = table.reference_module(artifact) if needs_module else None
    setup = BenchSetup(artifact, graph, request, module, device)
    before, recorded = clocks(), datetime.datetime.now(datetime.UTC)
    measured = {case: measure_case(setup, *case) for case in request.cases}
    names = dict.fromkeys(request.candidates)
    return BenchResult(
        artifact=artifact,
        cases=tuple(
            Case(str(size), batch, found.session, found.products, side_of(device))
            for (size, batch), found in measured.items()
        ),
        rows=tuple(row for case, found in measured.items() for row in _rows(setup, *case, found, *counted[case])),
        steps={
            str(size): steps for (size, _), found in measured.items() if (steps := _steps(found, request.reference))
        },
        steps_with=request.reference,
        photograph=Path(request.photograph).name if request.photograph else "",
        environment=machine(),
        clocks=(before, clocks()),
        recorded=recorded,
        candidates={name: _described(name, setup, measured.values()) for name in names},
        settings={name: next(iter(measured.values())).facts[name][1] for name in names},
        device=device,
    )


def _check(artifact: Artifact, request: BenchRequest, device: str) -> None:
    if request.photograph:
        target = "dpt_deploy.imaging.files:read_image"
        load_attribute(target, which="images", purpose="timing the steps around the model")(Path(request.photograph))
    for size, batch in request.cases:
        check_request(artifact.sidecar, size, batch)
        for name in request.candidates:
            table.check(name, artifact, size, batch, device)
    if artifact.sidecar.engine:
        check_target_of(artifact.sidecar.engine)
    if device == CUDA and any(find_candidate(name).runs == "module" for name in request.candidates):
        target = f"{__package__}.torch_calls:check_device"
        load_attribute(target, which="export", purpose="timing PyTorch on a GPU")()


def _check_baseline(baseline: Baseline, artifact: Artifact, request: BenchRequest) -> None:
    names = set(request.candidates)
    requested = [(str(size), batch, name) for size, batch in request.cases for name in request.candidates]
    compared = requested if request.reference in names else []  # without the reference there is no ratio
    common, left = comparable(baseline, artifact.path.stem, compared)
    say(f"compared with {baseline.source}: {'; '.join(map(describe, common))}")
    if left:
        say(f"recorded there, not measured here: {'; '.join(map(describe, left))}")


def _counts(artifact: Artifact, cases: Iterable[tuple[Size, int]]) -> dict[tuple[Size, int], tuple[int, int]]:
    """Return the operations of one run of the exported graph for each size and batch: in all, and of attention."""
    opened = OpenedGraph(artifact.path)
    counted = {case: count_operations(opened, *case) for case in cases}
    return {case: (found.total, found.attention) for case, found in counted.items()}


def _described(name: str, setup: BenchSetup, measured: Iterable[MeasuredCase]) -> str:
    """Return what was timed under a name, with the library parts that turned out to run it."""
    notes = dict.fromkeys(note for each in measured if (note := each.facts[name][0]))
    return f"{table.describe(name, setup.artifact, setup.device)}{''.join(f' ({note})' for note in notes)}"


def _rows(
    setup: BenchSetup, size: Size, batch: int, measured: MeasuredCase, operations: int, attention: int
) -> list[Row]:
    names = tuple(dict.fromkeys(setup.request.candidates))
    best, precision = ceiling.best(measured.products), setup.artifact.sidecar.precision
    compared = {name: table.counterpart(name, names) for name in names}
    return [
        Row(
            size=str(size),
            batch=batch,
            candidate=name,
            timing=measured.candidate(name),
            operations=operations,
            attention=attention,
            share=share(name, measured.candidate(name), operations, best, precision, setup.device),
            against=(ratio(measured.candidate(name), measured.candidate(compared[name])) if compared[name] else None),
            memory=measured.memory.get(name),
            reference=setup.request.reference,
            parts={part: timing.median for part, timing in measured.parts(name).items()},
        )
        for name in names
    ]


def _steps(measured: MeasuredCase, reference: str) -> dict[str, float]:
    """Return the median seconds of each step, the model's from its candidate; empty if steps were not timed."""
    around = measured.steps()
    if not around:
        return {}
    return {name: (around.get(name) or measured.candidate(reference)).median for name in STEPS}


__all__ = ["BenchRequest", "BenchResult", "bench_artifact", "open_baseline"]
