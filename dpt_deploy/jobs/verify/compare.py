"""Does a candidate agree with its reference? One case is one batch at one size; a report is all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from dpt_deploy.artifact.records import CaseResult, ParityRecord
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.core.size import Size
from dpt_deploy.measure import metrics

# A flat reference agrees with anything. Random weights are calibrated to span half of their largest value; an image of
# 32 pixels, four tokens, sees less of it (0.23 was met). Trained networks may see little depth, but never none.
MIN_SPAN_RANDOM = 0.15
MIN_SPAN_TRAINED = 0.01

Outputs = Callable[[int, Size], tuple[np.ndarray, np.ndarray]]  # (batch, size) -> candidate, reference


@dataclass(frozen=True)
class ParityComparison:
    """All cases, with the tolerance they were held to."""

    cases: tuple[CaseResult, ...]
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def failures(self) -> list[CaseResult]:
        return [case for case in self.cases if not case.passed]

    def record(self, *, matrix: bool, runtime: str, tools: dict[str, str], processor: str) -> ParityRecord:
        """These numbers as a sidecar keeps them, with where they were measured."""
        return ParityRecord(self.passed, matrix, runtime, self.tolerance, self.cases, tools, processor)


def check_reference(reference: np.ndarray, *, min_span: float) -> None:
    """Refuse a reference that would agree with anything.

    Raises:
        ParityError: it holds NaN or infinity, or its span is below ``min_span`` of its largest magnitude.
    """
    if not np.isfinite(reference).all():
        raise ParityError(
            "the reference output is not finite", hint="check the checkpoint: its own output has NaN or Inf"
        )
    if reference.dtype.kind in "iu":
        if reference.min() == reference.max():
            raise ParityError("the reference labels are all the same", hint="use another image or other weights")
        return
    largest, width = float(np.abs(reference).max()), metrics.span(reference)
    if largest == 0.0 or width < min_span * largest:
        raise ParityError(
            f"the reference output is flat (span {width:.3g}, largest {largest:.3g}): it would agree with anything",
            hint="use trained weights, or --weights random, whose generator guarantees a varied output",
        )


def compare(
    candidate: np.ndarray, reference: np.ndarray, *, batch: int, size: Size, tolerance: Tolerance
) -> CaseResult:
    """Measure one case. Outputs are depth (B, H, W), logits (B, classes, H, W), or integer labels (B, H, W)."""
    if candidate.shape != reference.shape:
        note = f"output shape {list(candidate.shape)}, expected {list(reference.shape)}: a size is baked into the graph"
        return CaseResult(batch, str(size), passed=False, note=note)
    if reference.dtype.kind in "iu":
        agreement = metrics.pixel_agreement(candidate, reference)
        return CaseResult(batch, str(size), agreement >= 1.0 - tolerance.disagreement, agreement=agreement)
    if not np.isfinite(candidate).all():
        return CaseResult(batch, str(size), passed=False, note="NaN or Inf in the output")
    largest, mean = metrics.range_error(candidate, reference)
    passed = largest <= tolerance.max and mean <= tolerance.mean
    if reference.ndim == 4:
        agreement = metrics.pixel_agreement(candidate, reference)
        return CaseResult(batch, str(size), passed, largest, mean, agreement=agreement)
    return CaseResult(batch, str(size), passed, largest, mean, abs_rel=metrics.aligned_abs_rel(candidate, reference))


def compare_matrix(
    outputs: Outputs,
    cases: Iterable[tuple[int, Size]],
    tolerance: Tolerance,
    *,
    min_span: float,
    again: Callable[[CaseResult], CaseResult] = lambda case: case,
) -> ParityComparison:
    """Run every case; all of them are measured even when one fails. ``again`` judges a case that failed once more."""
    results = []
    for batch, size in cases:
        try:
            candidate, reference = outputs(batch, size)
        except UsageError as exc:  # the graph does not take a size that the artefact promises
            results.append(CaseResult(batch, str(size), passed=False, note=str(exc)))
        else:
            check_reference(reference, min_span=min_span)
            found = compare(candidate, reference, batch=batch, size=size, tolerance=tolerance)
            results.append(found if found.passed else again(found))
        say(f"{size}, batch {batch}: {'pass' if results[-1].passed else 'FAIL'}")
    return ParityComparison(tuple(results), tolerance)
