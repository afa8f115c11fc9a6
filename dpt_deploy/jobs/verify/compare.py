"""Comparison of a candidate with its reference. One case is one output for one batch at one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dpt_deploy.artifact.records import CaseResult, OutputRecord, ParityRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import Task
from dpt_deploy.measure import metrics

# A flat reference agrees with anything. Random weights are calibrated to span half of their largest value; an image of
# 32 pixels, four tokens, sees less of it (0.23 was met). Trained networks may see little depth, but never none.
MIN_SPAN_RANDOM = 0.15
MIN_SPAN_TRAINED = 0.01
# Errors of an 8-bit file differ between runtimes and images, but not by much from those in its record. The wrong
# roundings of ONNX Runtime 1.29 cost tiny-int8 fifteen times the mean error of 1.30 (benchmarks/clients.py). Below the
# floor errors are not compared with the record: they are the usual noise of 8 bits.
TIMES_RECORDED = 4
RECORDED_FLOOR = 0.04
EIGHT_BITS = 8

Outputs = Callable[[int, Size], tuple[Tensors, Tensors]]  # (batch, size) -> candidate, reference, by output name


@dataclass(frozen=True)
class ParityComparison:
    """All cases, with the tolerance of each output."""

    cases: tuple[CaseResult, ...]
    tolerances: Mapping[str, Tolerance]

    @property
    def passed(self) -> bool:
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def failures(self) -> list[CaseResult]:
        return [case for case in self.cases if not case.passed]

    def record(self, *, matrix: bool, runtime: str, tools: dict[str, str], processor: str) -> ParityRecord:
        """These numbers as a sidecar keeps them, with where they were measured."""
        return ParityRecord(self.passed, matrix, runtime, dict(self.tolerances), self.cases, tools, processor)


def check_reference(reference: np.ndarray, task: Task, *, min_span: float) -> None:
    """Refuse a reference that would agree with anything. Numbers with a scale of their own may be flat when trained.

    Raises:
        ParityError: it holds NaN or infinity, all its labels are equal, or its span is below ``min_span`` of its
            largest magnitude.
    """
    if task.compare == "labels":
        if reference.min() == reference.max():
            raise ParityError("the reference labels are all the same", hint="use another image or other weights")
        return
    if not np.isfinite(reference).all():
        raise ParityError(
            "the reference output is not finite", hint="check the checkpoint: its own output has NaN or Inf"
        )
    if task.full_scale and min_span < MIN_SPAN_RANDOM:
        return  # a trained network sees no sky in many an image
    largest, width = float(np.abs(reference).max()), metrics.span(reference)
    if largest == 0.0 or width < min_span * largest:
        raise ParityError(
            f"the reference output is flat (span {width:.3g}, largest {largest:.3g}): it would agree with anything",
            hint="use trained weights, or --weights random, whose generator guarantees a varied output",
        )


def expected_outputs(sidecar: Sidecar) -> tuple[OutputRecord, ...]:
    """The outputs of an artefact with their tolerances.

    Recipes allow 8-bit files what the most sensitive networks need. Where the record of a comparison shows that this
    file needs less, the mean error may be :data:`TIMES_RECORDED` the recorded one.
    """
    known = sidecar.parity
    if known is None or not known.verified or find_precision(sidecar.precision).bits != EIGHT_BITS:
        return sidecar.outputs
    return tuple(_held_to_record(output, known) for output in sidecar.outputs)


def _held_to_record(output: OutputRecord, known: ParityRecord) -> OutputRecord:
    means = [case.mean for case in known.cases if case.output == output.name and case.mean is not None]
    if not means:
        return output
    limit = max(TIMES_RECORDED * max(means), RECORDED_FLOOR)
    allowed = output.allowed
    return replace(output, tolerance=replace(allowed, mean=min(allowed.mean, limit)), type_loss=None)


def compare(
    candidate: np.ndarray, reference: np.ndarray, output: OutputRecord, *, batch: int, size: Size
) -> CaseResult:
    """Measure one case by the task of its output; arrays are of that task's shape."""
    case = CaseResult(batch, str(size), passed=False, output=output.name)
    if candidate.shape != reference.shape:
        note = f"output shape {list(candidate.shape)}, expected {list(reference.shape)}: a size is baked into the graph"
        return replace(case, note=note)
    task, tolerance = output.kind, output.allowed
    if task.compare == "labels":
        agreement = metrics.pixel_agreement(candidate, reference)
        return replace(case, passed=agreement >= 1.0 - tolerance.disagreement, agreement=agreement)
    if not np.isfinite(candidate).all():
        return replace(case, note="NaN or Inf in the output")
    largest, mean = metrics.range_error(candidate, reference, task.full_scale)
    return replace(
        case,
        passed=largest <= tolerance.max and mean <= tolerance.mean,
        max=largest,
        mean=mean,
        abs_rel=metrics.aligned_abs_rel(candidate, reference) if task.drift == "abs_rel" else None,
        agreement=metrics.pixel_agreement(candidate, reference) if task.drift == "labels" else None,
    )


def compare_matrix(
    run: Outputs,
    cases: Iterable[tuple[int, Size]],
    outputs: Sequence[OutputRecord],
    *,
    min_span: float,
    again: Callable[[CaseResult], CaseResult] = lambda case: case,
) -> ParityComparison:
    """Compare all ``outputs`` in every case; all are measured even if one fails.

    ``run`` returns the candidate's outputs and the reference's. ``again`` gives a case that failed a second chance.
    """
    results: list[CaseResult] = []
    for batch, size in cases:
        try:
            candidate, reference = run(batch, size)
        except UsageError as exc:  # the graph does not take a size that the artefact promises
            found = [CaseResult(batch, str(size), False, note=str(exc), output=output.name) for output in outputs]
        else:
            found = []
            for output in outputs:
                check_reference(reference[output.name], output.kind, min_span=min_span)
                case = compare(candidate[output.name], reference[output.name], output, batch=batch, size=size)
                found.append(case if case.passed else again(case))
        results += found
        for case in found:
            name = f", {case.output}" if len(outputs) > 1 else ""
            say(f"{size}, batch {batch}{name}: {'pass' if case.passed else 'FAIL'}")
    return ParityComparison(tuple(results), {output.name: output.allowed for output in outputs})
