"""One size and batch of a benchmark: its candidates are prepared, opened, and timed in turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import candidates as table
from dpt_deploy.jobs.bench.candidates import CPU, find_candidate
from dpt_deploy.jobs.bench.ceilings import faster, products, time_alone
from dpt_deploy.jobs.bench.peak_memory import PeakMemory, measure
from dpt_deploy.jobs.bench.request import BenchRequest
from dpt_deploy.jobs.predict.photo import steps_around
from dpt_deploy.measure.timing import Session, TimedCall, Timing, interleave


@dataclass(frozen=True)
class BenchSetup:
    """A checked request, and what it needs: the artefact and its graph, a PyTorch module (or None), and the device."""

    artifact: Artifact
    graph: Artifact
    request: BenchRequest
    module: Any
    device: str


@dataclass(frozen=True)
class TimedPart:
    """Key of one timing: a candidate, a part of its run, a step around the model, or a matrix product."""

    role: Literal["candidate", "part", "step", "product"]
    name: str
    part: str = ""


@dataclass(frozen=True)
class MeasuredCase:
    """Measurements of one size and batch."""

    session: Session[TimedPart]
    products: Mapping[str, Timing]
    memory: Mapping[str, PeakMemory]
    facts: Mapping[str, tuple[str, Mapping[str, str]]]  # of each candidate: the note and the settings of its library

    def candidate(self, name: str) -> Timing:
        """Timing of a candidate's whole run."""
        return self.session.timings[TimedPart("candidate", name)]

    def steps(self) -> dict[str, Timing]:
        """Timings of the steps around the model, by their names; empty if they were not timed."""
        return _named(self.session, "step")

    def parts(self, name: str) -> dict[str, Timing]:
        """Timings of the parts of a candidate's run, by their names."""
        return {
            key.part: timing for key, timing in self.session.timings.items() if (key.role, key.name) == ("part", name)
        }


def _named(session: Session[TimedPart], role: Literal["step", "product"]) -> dict[str, Timing]:
    """Timings of all steps or products, by their names."""
    return {key.name: timing for key, timing in session.timings.items() if key.role == role}


def measure_case(setup: BenchSetup, size: Size, batch: int) -> MeasuredCase:
    """Prepare the files of the candidates, time them interleaved, and measure their memory if that is asked for."""
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
        return MeasuredCase(session, faster(alone, _named(session, "product")), memory, facts)


def _prepared(name: str, setup: BenchSetup, size: Size, batch: int, folder: Path) -> Path | None:
    """Return the file that a candidate runs; None for a module. The plain export is made in ``folder``."""
    runs = find_candidate(name).runs
    if runs == "plain":
        return table.plain_export(name, setup.module, size, batch, folder)
    return {"model": setup.graph.path, "engine": setup.artifact.path, "module": None}[runs]


def _time(
    setup: BenchSetup, files: Mapping[str, Path | None], size: Size, batch: int
) -> tuple[Session[TimedPart], dict[str, Timing], dict[str, tuple[str, Mapping[str, str]]]]:
    """Time the candidates opened in the given order, and on a CPU for half of the time in the reverse order.

    Of two files that one library has open, the first may be slower.
    """
    orders = [list(files)]
    if setup.device == CPU and len(files) > 1:
        orders.append(orders[0][::-1])
    seconds, rounds = setup.request.seconds / len(orders), math.ceil(setup.request.rounds / len(orders))
    sessions: list[Session[TimedPart]] = []
    with _products(setup) as multiply:
        alone = time_alone(multiply)
        yardsticks = {TimedPart("product", name): call for name, call in multiply.items()}
        for names in orders:
            with ExitStack() as stack:
                candidates = _opened(setup, {name: files[name] for name in names}, size, batch, stack)
                calls = _calls(setup, candidates, size, batch)
                sessions.append(interleave(calls, yardsticks=yardsticks, seconds=seconds, rounds=rounds))
                facts = {name: (call.note, call.settings) for name, call in candidates.items()}
    return reduce(Session.followed_by, sessions), alone, facts


def _opened(
    setup: BenchSetup, files: Mapping[str, Path | None], size: Size, batch: int, stack: ExitStack
) -> dict[str, TimedCall]:
    """Return the candidates, opened in the order of ``files`` until ``stack`` is left."""
    images = table.images_of(size, batch)
    return {
        name: stack.enter_context(table.enter(name, setup.artifact, file, setup.module, images, setup.device))
        for name, file in files.items()
    }


def _calls(
    setup: BenchSetup, candidates: Mapping[str, TimedCall], size: Size, batch: int
) -> dict[TimedPart, TimedCall]:
    """Return everything that is timed in turns: the candidates, the steps around the reference, parts of a run."""
    request = setup.request
    calls = {TimedPart("candidate", name): call for name, call in candidates.items()}
    if request.photograph and batch == 1 and request.reference in candidates:
        output: Any = candidates[request.reference].run()
        steps = steps_around(setup.graph, size, Path(request.photograph), output)
        calls |= {TimedPart("step", name): step for name, step in steps.items()}
    for name, call in candidates.items():
        for part, run in call.parts.items():
            calls[TimedPart("part", name, part)] = TimedCall(run, call.synchronize)
    return calls


def _products(setup: BenchSetup) -> AbstractContextManager[dict[str, TimedCall]]:
    """Return the matrix products; on a GPU they are in the type of the rows: 16 bits, except for an FP32 model."""
    kind = find_precision(setup.artifact.sidecar.precision).torch_type
    return products(tuple(dict.fromkeys(setup.request.candidates)), setup.device, kind)
