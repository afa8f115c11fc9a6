"""The result of a verification, and the error raised for a failed one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dpt_deploy.artifact.records import CaseResult
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.jobs.verify.compare import ParityComparison
from dpt_deploy.runtime.registry import find_runtime


@dataclass(frozen=True)
class Divergence:
    """The first tensor that is wrong, by how much, and the last one before it that was right."""

    tensor: str
    max: float
    mean: float
    last_good: str | None


@dataclass(frozen=True)
class Verification:
    """Result of one ``verify``: the comparison, and the tensor at which it diverges if that was found.

    ``runtime`` computed the artefact. If that is not the runtime of ``run``, ``deployed`` is the comparison of that one
    with the golden tensors; None if it cannot run the artefact.
    """

    artifact: Artifact
    comparison: ParityComparison
    against: str
    runtime: str
    divergence: Divergence | None = None
    deployed: Verification | None = None

    @property
    def passed(self) -> bool:
        return self.comparison.passed and (self.deployed is None or self.deployed.passed)

    @property
    def title(self) -> str:
        """The two sides, in words."""
        weights = self.artifact.sidecar.weights
        return f"{self.artifact.path.name} (weights: {weights}) against {self.sides}"

    @property
    def sides(self) -> str:
        """The reference and the runtime, in words; emulation is named."""
        emulated = " (emulated)" if find_runtime(self.runtime).emulates else ""
        return f"{self.against}, in {self.runtime}{emulated}"

    def to_dict(self) -> dict[str, Any]:
        found = self.divergence
        where = None if found is None else {"tensor": found.tensor, "max": found.max, "last_good": found.last_good}
        return {
            "artifact": str(self.artifact.path),
            "weights": str(self.artifact.sidecar.weights),
            "against": self.against,
            "runtime": self.runtime,
            "emulated": find_runtime(self.runtime).emulates,
            "verified": self.passed,
            **_tolerances(self.comparison),
            "cases": [asdict(case) for case in self.comparison.cases],
            "diverges_at": where,
            "deployed": None if self.deployed is None else self.deployed.to_dict(),
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
        if verification.deployed is not None:
            raise_on_failure(verification.deployed)
        return
    failed = comparison.failures
    worst = max(failed, key=lambda case: _times_allowed(case, comparison.tolerances[case.output]))
    measured = measured_error(worst, comparison.tolerances[worst.output])
    output = f" in output {worst.output!r}" if len(comparison.tolerances) > 1 else ""
    found = verification.divergence
    where = f"; first tensor that diverges: {found.tensor} (max {found.max:.2e})" if found else ""
    raise ParityError(
        f"{len(failed)} of {len(comparison.cases)} cases disagree with {verification.sides}; worst at size "
        f"{worst.size}, batch {worst.batch}{output}: {measured}{where}",
        hint="do not ship this file; export it again, and report it if that does not help",
    )


def _times_allowed(case: CaseResult, tolerance: Tolerance) -> float:
    """The larger of the two errors over its limit; infinite for a case without numbers."""
    if case.note:
        return float("inf")
    if case.max is None or case.mean is None:
        return 1.0 - (case.agreement or 0.0)
    limit = case.held_to or tolerance
    pairs = ((case.max, limit.max), (case.mean, limit.mean))
    return max(found / allowed if allowed else float("inf") for found, allowed in pairs)


def measured_error(case: CaseResult, tolerance: Tolerance) -> str:
    """The errors of a failed case and their limits, in words."""
    if case.note:
        return case.note
    if case.max is not None and case.mean is not None:
        limit = case.held_to or tolerance
        allowed = f"allowed {limit.max:.1e} and {limit.mean:.1e}"
        times = _times_allowed(case, tolerance)
        return f"max {case.max:.2e} and mean {case.mean:.2e} of range, {allowed}: {times:.1f} times too much"
    return f"agreement {case.agreement or 0.0:.5f}, needed {1 - tolerance.disagreement:.5f}"
