"""The result of a verification, and the error raised for a failed one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.jobs.verify.compare import ParityComparison


@dataclass(frozen=True)
class Divergence:
    """The first tensor that is wrong, by how much, and the last one before it that was right."""

    tensor: str
    max: float
    mean: float
    last_good: str | None


@dataclass(frozen=True)
class Verification:
    """Result of one ``verify``: the comparison, and the tensor at which it diverges if that was found."""

    artifact: Artifact
    comparison: ParityComparison
    against: str
    divergence: Divergence | None = None

    def to_dict(self) -> dict[str, Any]:
        found = self.divergence
        where = None if found is None else {"tensor": found.tensor, "max": found.max, "last_good": found.last_good}
        return {
            "artifact": str(self.artifact.path),
            "weights": str(self.artifact.sidecar.weights),
            "against": self.against,
            "verified": self.comparison.passed,
            **_tolerances(self.comparison),
            "cases": [asdict(case) for case in self.comparison.cases],
            "diverges_at": where,
        }


def _tolerances(comparison: ParityComparison) -> dict[str, Any]:
    """``tolerance`` of the only output, or ``tolerances`` by name where there are several."""
    each = {name: asdict(tolerance) for name, tolerance in comparison.tolerances.items()}
    return {"tolerances": each} if len(each) > 1 else {"tolerance": next(iter(each.values()))}


def raise_on_failure(verification: Verification) -> None:
    """Raise the error of exit code 5 for a failed verification.

    Raises:
        ParityError: it failed; the message names the worst case and the first tensor that diverges.
    """
    comparison = verification.comparison
    if comparison.passed:
        return
    failed = comparison.failures
    worst = max(failed, key=lambda case: float("inf") if case.note else case.max or 0.0)
    measured = measured_error(worst, comparison.tolerances[worst.output])
    output = f" in output {worst.output!r}" if len(comparison.tolerances) > 1 else ""
    found = verification.divergence
    where = f"; first tensor that diverges: {found.tensor} (max {found.max:.2e})" if found else ""
    raise ParityError(
        f"{len(failed)} of {len(comparison.cases)} cases disagree with {verification.against}; worst at size "
        f"{worst.size}, batch {worst.batch}{output}: {measured}{where}",
        hint="do not ship this file; export it again, and report it if that does not help",
    )


def measured_error(case: CaseResult, tolerance: Tolerance) -> str:
    """The errors of a failed case and their limits, in words."""
    if case.note:
        return case.note
    if case.max is not None and case.mean is not None:
        limit = case.held_to or tolerance
        allowed = f"allowed {limit.max:.0e} and {limit.mean:.0e}"
        return f"max {case.max:.2e} and mean {case.mean:.2e} of range, {allowed}"
    return f"agreement {case.agreement or 0.0:.5f}, needed {1 - tolerance.disagreement:.5f}"
