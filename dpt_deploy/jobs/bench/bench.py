"""Side by side, in one run: PyTorch, the plain export of the Hugging Face model, and our artefact."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import clocks
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import contenders as kinds
from dpt_deploy.jobs.bench.baseline import Baseline, check_machine, comparable, describe, read_baseline
from dpt_deploy.jobs.bench.ceilings import products, side_of
from dpt_deploy.jobs.bench.contenders import OURS
from dpt_deploy.jobs.bench.gpu_contenders import check_device
from dpt_deploy.jobs.bench.peak_memory import PeakMemory, measure
from dpt_deploy.jobs.bench.result import BenchResult, Case, Row, machine
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.targets import check_target_of
from dpt_deploy.jobs.predict.photo import STEPS, steps_around
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import MAX_ROUNDS, Contender, Session, Timing, interleave, ratio

DEFAULT = ("torch", OURS)
SECONDS = 60.0
_PRODUCT, _STEP, _PART = "product ", "step ", "part "  # what else takes turns, told by a space in its name


@dataclass(frozen=True)
class _Setup:
    """What is measured, in the order given."""

    artifact: Artifact
    names: tuple[str, ...]
    seconds: float
    rounds: int
    photograph: Path | None
    memory: bool
    module: Any
    device: str

    @property
    def ours(self) -> str:
        return kinds.ours(self.names)


@dataclass(frozen=True)
class _Measured:
    """One size and batch, as it came out."""

    session: Session
    memory: Mapping[str, PeakMemory]
    notes: Mapping[str, str]

    def named(self, prefix: str) -> dict[str, Timing]:
        """Timings whose name begins with ``prefix``, under the rest of it."""
        return {
            name.removeprefix(prefix): timing
            for name, timing in self.session.timings.items()
            if name.startswith(prefix)
        }


def open_baseline(path: Path) -> Baseline:
    """A recorded run that this machine can be held to.

    Raises:
        BadFileError: it cannot be read.
        IncompatibleError: it was recorded on another kind of machine.
    """
    baseline = read_baseline(path)
    check_machine(baseline, machine())
    return baseline


def bench_artifact(
    artifact: Artifact,
    sizes: Sequence[Size],
    *,
    batches: Sequence[int] = (1,),
    contenders: Sequence[str] = DEFAULT,
    device: str = "",
    seconds: float = SECONDS,
    rounds: int = MAX_ROUNDS,
    photograph: Path | None = None,
    memory: bool = False,
    baseline: Baseline | None = None,
) -> BenchResult:
    """Time ``contenders`` at each size and batch, interleaved, for about ``seconds`` or ``rounds`` each.

    With a ``photograph`` the steps from its file to its depth map take turns as well, at batch 1 and where our artefact
    is among the contenders. With ``memory`` each contender's peak is measured after the timing, in fresh processes.
    Whatever can be refused is refused first: also a ``baseline`` that this run could not be held to.

    ``device`` is where PyTorch computes: ``cpu``, or ``cuda``, which is the default for an engine; there it computes in
    the type of the artefact.

    Raises:
        UsageError: an unknown contender, or one that cannot run a size.
        BadFileError: the photograph cannot be read, nothing of the baseline is measured, or the model that an engine
            was built of is not beside it.
        IncompatibleError: the baseline is of another model; or there is no GPU, or not the engine's.
    """
    device = device or (kinds.CUDA if artifact.sidecar.kind == PLAN else kinds.CPU)
    _check(artifact, sizes, batches, contenders, photograph, device)
    if baseline:
        planned = ((str(size), batch, name) for size, batch, name in product(sizes, batches, contenders))
        _hold_to(baseline, artifact, list(planned))
    counted = _counts(kinds.graph_of(artifact), product(sizes, batches))
    module = kinds.reference_module(artifact) if any(map(kinds.needs_module, contenders)) else None
    plan = _Setup(artifact, tuple(dict.fromkeys(contenders)), seconds, rounds, photograph, memory, module, device)
    before, recorded = clocks(), datetime.datetime.now(datetime.UTC)
    measured = {case: _measure(plan, *case) for case in product(sizes, batches)}
    return BenchResult(
        artifact=artifact,
        cases=tuple(
            Case(str(size), batch, m.session, m.named(_PRODUCT), side_of(device))
            for (size, batch), m in measured.items()
        ),
        rows=tuple(row for case, m in measured.items() for row in _rows(plan, *case, m, *counted[case])),
        steps={str(size): found for (size, _), m in measured.items() if (found := _steps(m, plan.ours))},
        steps_with=plan.ours,
        photograph=photograph.name if photograph else "",
        environment=machine(),
        clocks=(before, clocks()),
        recorded=recorded,
        contenders={name: _described(name, plan, measured.values()) for name in plan.names},
        device=device,
    )


def _check(
    artifact: Artifact,
    sizes: Sequence[Size],
    batches: Sequence[int],
    names: Sequence[str],
    photograph: Path | None,
    device: str,
) -> None:
    if photograph:
        from dpt_deploy.imaging.files import read_image

        read_image(photograph)
    for size, batch in product(sizes, batches):
        check_request(artifact.sidecar, size, batch)
        for name in names:
            kinds.check(name, artifact, size, batch, device)
    if artifact.sidecar.engine:
        check_target_of(artifact.sidecar.engine)
        kinds.graph_of(artifact)
    if device == kinds.CUDA and any(map(kinds.runs_module, names)):
        check_device()


def _hold_to(baseline: Baseline, artifact: Artifact, planned: list[tuple[str, int, str]]) -> None:
    names = {name for _, _, name in planned}
    measured = planned if kinds.ours(names) in names else []  # no ratio without ours
    common, left = comparable(baseline, artifact.path.stem, measured)
    say(f"held to {baseline.source}: {'; '.join(map(describe, common))}")
    if left:
        say(f"recorded there, not measured here: {'; '.join(map(describe, left))}")


def _counts(artifact: Artifact, cases: Iterable[tuple[Size, int]]) -> dict[tuple[Size, int], tuple[int, int]]:
    """Operations of one run of our graph for each size and batch: in all, and of attention."""
    with extra("export", purpose="counting operations"):
        from dpt_deploy.graph.analysis.opened import OpenedGraph
        from dpt_deploy.graph.analysis.operations import count_operations
    opened = OpenedGraph(artifact.path)
    counted = {case: count_operations(opened, *case) for case in cases}
    return {case: (found.total, found.attention) for case, found in counted.items()}


def _measure(plan: _Setup, size: Size, batch: int) -> _Measured:
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as folder:
        say(f"preparing {', '.join(plan.names)} at {size}, batch {batch}")
        files = {
            name: kinds.prepare(name, plan.artifact, plan.module, size, batch, Path(folder)) for name in plan.names
        }
        say(f"timing {', '.join(plan.names)} at {size}, batch {batch}")
        session, notes = _time(plan, files, size, batch)
        memory = {}
        for name in plan.names if plan.memory else ():
            say(f"measuring the memory of {name} at {size}, batch {batch}")
            memory[name] = measure(name, plan.artifact, files[name], size, batch, plan.device)
            if memory[name].error:
                say(f"no memory of {name} at {size}, batch {batch}: {memory[name].error}")
        return _Measured(session, memory, notes)


def _time(plan: _Setup, files: Mapping[str, Path | None], size: Size, batch: int) -> tuple[Session, dict[str, str]]:
    images = kinds.images_of(size, batch)
    with ExitStack() as stack:
        entered: dict[str, Contender] = {
            name: stack.enter_context(kinds.enter(name, plan.artifact, file, plan.module, images, plan.device))
            for name, file in files.items()
        }
        if plan.photograph and batch == 1 and plan.ours in entered:
            result: Any = entered[plan.ours].run()
            steps = steps_around(kinds.graph_of(plan.artifact), size, plan.photograph, result)
            entered |= {_STEP + name: step for name, step in steps.items()}
        multiply = {_PRODUCT + name: call for name, call in stack.enter_context(_products(plan)).items()}
        notes = {name: entered[name].note for name in files}
        entered |= {f"{_PART}{name} {part}": call for name in files for part, call in _parts(entered[name]).items()}
        return interleave(entered, yardsticks=multiply, seconds=plan.seconds, rounds=plan.rounds), notes


def _parts(contender: Contender) -> dict[str, Contender]:
    return {name: Contender(part, contender.synchronize) for name, part in contender.parts.items()}


def _described(name: str, plan: _Setup, measured: Iterable[_Measured]) -> str:
    """What was timed, and what turned out to run it."""
    notes = dict.fromkeys(note for each in measured if (note := each.notes[name]))
    return f"{kinds.describe(name, plan.artifact, plan.device)}{''.join(f' ({note})' for note in notes)}"


def _products(plan: _Setup) -> AbstractContextManager[dict[str, Contender]]:
    """On a GPU in the type that its rows compute in: 16 bits, but for an FP32 model."""
    return products(plan.names, plan.device, find_precision(plan.artifact.sidecar.precision).torch_type)


def _rows(plan: _Setup, size: Size, batch: int, measured: _Measured, operations: int, attention: int) -> list[Row]:
    timings, yardstick = measured.session.timings, ceiling.best(measured.named(_PRODUCT))
    side = side_of(plan.device)
    beside = {name: kinds.counterpart(name, plan.names) for name in plan.names}
    return [
        Row(
            size=str(size),
            batch=batch,
            contender=name,
            timing=timings[name],
            operations=operations,
            attention=attention,
            share=ceiling.share(timings[name], operations, yardstick, side),
            against=ratio(timings[name], timings[beside[name]]) if beside[name] else None,
            memory=measured.memory.get(name),
            ours=plan.ours,
            parts={part: timing.median for part, timing in measured.named(f"{_PART}{name} ").items()},
        )
        for name in plan.names
    ]


def _steps(measured: _Measured, ours: str) -> dict[str, float]:
    """Median seconds of each step, empty where they were not timed; the model's are those of the contender."""
    around = measured.named(_STEP)
    return {name: (around.get(name) or measured.session.timings[ours]).median for name in STEPS} if around else {}


__all__ = ["BenchResult", "bench_artifact", "open_baseline"]
