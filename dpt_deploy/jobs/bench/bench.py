"""Benchmark of an artefact: its runtime, PyTorch, and the plain export of the Hugging Face model, in one run."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.environment import clocks
from dpt_deploy.core.optional import extra, load_attribute
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import candidates as table
from dpt_deploy.jobs.bench.baseline import Baseline, check_machine, comparable, describe, read_baseline
from dpt_deploy.jobs.bench.candidates import CPU, CUDA, ORT, find_candidate, graph_of
from dpt_deploy.jobs.bench.ceilings import faster, products, share, side_of, time_alone
from dpt_deploy.jobs.bench.peak_memory import PeakMemory, measure
from dpt_deploy.jobs.bench.result import BenchResult, Case, Row, machine
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.targets import check_target_of
from dpt_deploy.jobs.predict.photo import STEPS, steps_around
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import MAX_ROUNDS, Session, TimedCall, Timing, interleave, ratio

with extra("export", purpose="counting operations"):
    from dpt_deploy.graph.analysis.opened import OpenedGraph
    from dpt_deploy.graph.analysis.operations import count_operations


@dataclass(frozen=True)
class BenchRequest:
    """Options of one benchmark.

    Attributes:
        sizes: network input sizes.
        batches: batch sizes; every size is timed at every batch.
        candidates: names of what is timed.
        device: where PyTorch computes, ``cpu`` or ``cuda``; empty: ``cuda`` for an engine, else ``cpu``. On the GPU it
            computes in the type of the artefact.
        seconds: time limit for each size and batch.
        rounds: maximum runs per candidate.
        photograph: image file whose way to its depth map is timed too, step by step, at batch 1; None: not timed.
        memory: measure the peak memory of each candidate after the timing, in a fresh process.
    """

    sizes: tuple[Size, ...]
    batches: tuple[int, ...] = (1,)
    candidates: tuple[str, ...] = ("torch", ORT)
    device: str = ""
    seconds: float = 60.0
    rounds: int = MAX_ROUNDS
    photograph: Path | str | None = None
    memory: bool = False

    @property
    def cases(self) -> tuple[tuple[Size, int], ...]:
        """Every size at every batch."""
        return tuple(product(self.sizes, self.batches))

    @property
    def reference(self) -> str:
        """Name of the candidate that ratios refer to."""
        return table.reference_name(self.candidates)


@dataclass(frozen=True)
class _Setup:
    """A checked request, and what it needs: the artefact and its graph, a PyTorch module (or None), and the device."""

    artifact: Artifact
    graph: Artifact
    request: BenchRequest
    module: Any
    device: str


@dataclass(frozen=True)
class _Timed:
    """Key of one timing: a candidate, a part of its run, a step around the model, or a matrix product."""

    role: Literal["candidate", "part", "step", "product"]
    name: str
    part: str = ""


@dataclass(frozen=True)
class _Measured:
    """Measurements of one size and batch."""

    session: Session[_Timed]
    products: Mapping[str, Timing]
    memory: Mapping[str, PeakMemory]
    facts: Mapping[str, tuple[str, Mapping[str, str]]]  # of each candidate: the note and the settings of its library

    def candidate(self, name: str) -> Timing:
        return self.session.timings[_Timed("candidate", name)]

    def parts(self, name: str) -> dict[str, Timing]:
        """Timings of the parts of a candidate's run, by their names."""
        return {
            key.part: timing for key, timing in self.session.timings.items() if (key.role, key.name) == ("part", name)
        }


def _named(session: Session[_Timed], role: Literal["step", "product"]) -> dict[str, Timing]:
    """Timings of all steps or products, by their names."""
    return {key.name: timing for key, timing in session.timings.items() if key.role == role}


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
    setup = _Setup(artifact, graph, request, module, device)
    before, recorded = clocks(), datetime.datetime.now(datetime.UTC)
    measured = {case: _measure(setup, *case) for case in request.cases}
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


def _measure(setup: _Setup, size: Size, batch: int) -> _Measured:
    names = tuple(dict.fromkeys(setup.request.candidates))
    with scratch_folder() as folder:
        say(f"preparing {', '.join(names)} at {size}, batch {batch}")
        files = {name: _prepared(name, setup, size, batch, folder) for name in names}
        say(f"timing {', '.join(names)} at {size}, batch {batch}")
        session, alone, facts = _time(setup, files, size, batch)
        memory = {}
        for name in names if setup.request.memory else ():
            say(f"measuring the memory of {name} at {size}, batch {batch}")
            memory[name] = measure(name, setup.artifact, files[name], size, batch, setup.device)
            if memory[name].error:
                say(f"no memory of {name} at {size}, batch {batch}: {memory[name].error}")
        return _Measured(session, faster(alone, _named(session, "product")), memory, facts)


def _prepared(name: str, setup: _Setup, size: Size, batch: int, folder: Path) -> Path | None:
    """Return the file that a candidate runs; None for a module. The plain export is made in ``folder``."""
    runs = find_candidate(name).runs
    if runs == "plain":
        return table.plain_export(name, setup.module, size, batch, folder)
    return {"model": setup.graph.path, "engine": setup.artifact.path, "module": None}[runs]


def _time(
    setup: _Setup, files: Mapping[str, Path | None], size: Size, batch: int
) -> tuple[Session[_Timed], dict[str, Timing], dict[str, tuple[str, Mapping[str, str]]]]:
    request, images = setup.request, table.images_of(size, batch)
    with ExitStack() as stack:
        multiply = stack.enter_context(_products(setup))
        alone = time_alone(multiply)
        candidates = {
            name: stack.enter_context(table.enter(name, setup.artifact, file, setup.module, images, setup.device))
            for name, file in files.items()
        }
        calls = {_Timed("candidate", name): call for name, call in candidates.items()}
        if request.photograph and batch == 1 and request.reference in candidates:
            output: Any = candidates[request.reference].run()
            steps = steps_around(setup.graph, size, Path(request.photograph), output)
            calls |= {_Timed("step", name): step for name, step in steps.items()}
        for name, call in candidates.items():
            for part, run in call.parts.items():
                calls[_Timed("part", name, part)] = TimedCall(run, call.synchronize)
        yardsticks = {_Timed("product", name): call for name, call in multiply.items()}
        session = interleave(calls, yardsticks=yardsticks, seconds=request.seconds, rounds=request.rounds)
        return session, alone, {name: (call.note, call.settings) for name, call in candidates.items()}


def _described(name: str, setup: _Setup, measured: Iterable[_Measured]) -> str:
    """Return what was timed under a name, with the library parts that turned out to run it."""
    notes = dict.fromkeys(note for each in measured if (note := each.facts[name][0]))
    return f"{table.describe(name, setup.artifact, setup.device)}{''.join(f' ({note})' for note in notes)}"


def _products(setup: _Setup) -> AbstractContextManager[dict[str, TimedCall]]:
    """Return the matrix products; on a GPU they are in the type of the rows: 16 bits, except for an FP32 model."""
    kind = find_precision(setup.artifact.sidecar.precision).torch_type
    return products(tuple(dict.fromkeys(setup.request.candidates)), setup.device, kind)


def _rows(setup: _Setup, size: Size, batch: int, measured: _Measured, operations: int, attention: int) -> list[Row]:
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


def _steps(measured: _Measured, reference: str) -> dict[str, float]:
    """Return the median seconds of each step, the model's from its candidate; empty if steps were not timed."""
    around = _named(measured.session, "step")
    if not around:
        return {}
    return {name: (around.get(name) or measured.candidate(reference)).median for name in STEPS}


__all__ = ["BenchRequest", "BenchResult", "bench_artifact", "open_baseline"]
