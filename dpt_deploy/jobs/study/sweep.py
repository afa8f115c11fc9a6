"""Precisions, sizes and numbers of tokens of one model: time and accuracy of each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.precision import FP32, find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.candidates import images_of
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.study.models import Approximated, CandidateModel
from dpt_deploy.jobs.study.outcome import Study
from dpt_deploy.jobs.study.study import StudyRequest, StudySetup, prepare_study, run_study
from dpt_deploy.measure.timing import TimedCall, interleave

SECONDS = 5.0  # of timing per size, for all precisions together
TIMED = find_precision(
    FP32
).reference_runtime  # the runtime that computes in the precision of the file; others only predict an engine's error


@dataclass(frozen=True)
class Point:
    """One precision and approximation at one size.

    Mean AbsRel over the images, and milliseconds for one image (median and its 95 % interval) if this machine computes
    in the precision. ``best``: no other point is both faster and more accurate.
    """

    model: str
    precision: str
    size: str
    runtime: str
    abs_rel: float
    ms: tuple[float, float, float] | None = None
    best: bool = False
    approximation: str = ""


@dataclass(frozen=True)
class Sweep:
    """The study behind a sweep, and its points."""

    study: Study
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "sweep",
            "data": asdict(self.study.data),
            "images": len(self.study.scores.images),
            "environment": fingerprint(),
            "precisions": [each.to_dict() for each in self.study.prices],
            "points": [asdict(point) for point in self.points],
        }


def prepare_sweep(
    backbone: str,
    weights: str | None,
    sizes: tuple[Size, ...],
    precisions: tuple[str, ...],
    scenes: int,
    approximations: tuple[Approximated, ...] = (),
) -> StudySetup:
    """Check the request before anything is exported; raises as :func:`~.study.prepare_study`."""
    return prepare_study(
        StudyRequest(
            (backbone,),
            weights,
            sizes=sizes,
            precisions=precisions,
            approximations=approximations,
            scenes=scenes,
            control=None,
        )
    )


def run_sweep(
    setup: StudySetup,
    out: Path,
) -> Sweep:
    """Export, score and time; existing scores in ``out`` are reused.

    Raises:
        ParityError: a model returned NaN or infinity.
        BadFileError: a model is unusable.
        ResourceError: disk or memory.
    """
    study, models = run_study(setup, out)
    scores = study.scores
    errors = scores.values.mean(axis=2)
    points = []
    for column, size in enumerate(scores.sizes):
        say(f"timing at {size}")
        times = _times([each for each in models if each.candidate.runtime == TIMED], size)
        for row, each in enumerate(models):
            candidate = each.candidate
            found = float(errors[row, column])
            ms = times.get(candidate.name)
            points.append(
                Point(
                    candidate.model,
                    candidate.precision,
                    str(size),
                    candidate.runtime,
                    found,
                    ms,
                    approximation=candidate.approximation,
                )
            )
    return Sweep(study, _marked(points))


def _times(models: Sequence[CandidateModel], size: Size) -> dict[str, tuple[float, float, float]]:
    """Milliseconds of one image by candidate, interleaved: median and 95 % interval."""
    if not models:
        return {}
    with ExitStack() as stack:
        calls = {}
        for each in models:
            runner = stack.enter_context(each.runner())
            inputs = model_inputs(each.artifact.sidecar, images_of(size, 1))
            calls[each.candidate.name] = TimedCall(
                lambda runner=runner, inputs=inputs: runner.infer(inputs),  # type: ignore[misc]
                runner.synchronize,
            )
        timings = interleave(calls, seconds=SECONDS).timings
    found = {}
    for name, timing in timings.items():
        low, high = timing.interval()
        found[name] = 1e3 * timing.median, 1e3 * low, 1e3 * high
    return found


def _marked(points: Sequence[Point]) -> tuple[Point, ...]:
    """Mark the best timed points (the Pareto front)."""
    timed = [(point.ms[0], point.abs_rel) for point in points if point.ms]

    def beaten(ms: float, error: float) -> bool:
        return any(a <= ms and b <= error and (a < ms or b < error) for a, b in timed)

    return tuple(
        replace(point, best=point.ms is not None and not beaten(point.ms[0], point.abs_rel)) for point in points
    )
