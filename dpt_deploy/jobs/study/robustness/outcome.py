"""A finished study of conditions as one document; pages, tables and figures read nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study.outcome import Candidate, Data
from dpt_deploy.jobs.study.robustness.statistics import ConditionScores, Robustness
from dpt_deploy.measure.bootstrap import Estimate


@dataclass(frozen=True)
class ControlResult:
    """Growth of every subject under the strongest control condition, in points; it must be positive.

    ``effect`` is ``error``, or ``target`` if the numbers say how much nearer the outputs come to a target.
    """

    condition: str
    growth: dict[str, Estimate]
    effect: Literal["error", "target"] = "error"

    @property
    def noticed(self) -> bool:
        """True if the effect shows in every subject."""
        return all(each.low > 0 for each in self.growth.values())


@dataclass(frozen=True)
class RobustnessStudy:
    """Scores under conditions, their analysis and their provenance.

    ``more`` holds other metrics (mean over images by subject and condition), ``checksums`` those of the images of each
    condition, ``about`` what is particular to the kind of study.
    """

    kind: str
    data: Data
    candidates: Mapping[str, tuple[Candidate, Size]]
    scores: ConditionScores
    analysis: Robustness
    control: ControlResult | None
    failures: Sequence[tuple[str, str]]
    environment: Mapping[str, object]
    seed: int
    more: Mapping[str, ConditionScores]
    checksums: Mapping[str, str]
    about: Mapping[str, Any]

    @property
    def measures_something(self) -> bool:
        """False if the control was not noticed."""
        return self.control is None or self.control.noticed

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per subject and condition."""
        found = []
        for at, response in enumerate(self.analysis.responses):
            for index, condition in enumerate(self.scores.conditions):
                row: dict[str, Any] = {"subject": response.subject, "name": condition.name, "level": condition.level}
                row["control"] = condition.control
                for name, estimate in (("error", response.error[index]), ("growth", response.growth[index])):
                    row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
                row |= {name: float(scores.errors[at, index].mean()) for name, scores in self.more.items()}
                found.append(row)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON, with the error of every image."""
        return {
            "kind": self.kind,
            "measures_something": self.measures_something,
            "about": dict(self.about),
            "data": {**asdict(self.data), "images": len(self.scores.images)},
            "statistics": {"interval": "95 % percentile bootstrap over images, paired", "seed": self.seed},
            "subjects": [
                {**asdict(candidate), "subject": name, "size": str(size)}
                for name, (candidate, size) in self.candidates.items()
            ],
            "conditions": [{**asdict(each), "checksum": self.checksums[str(each)]} for each in self.scores.conditions],
            "rows": self.rows(),
            "summary": [
                {
                    "subject": each.subject,
                    "clean": asdict(each.error[0]),
                    "growth": asdict(each.overall),
                    "growth_by_name": {name: asdict(found) for name, found in each.growth_by_name.items()},
                    "mrr": asdict(each.resilience),
                    "mce": asdict(each.relative) if each.relative else None,
                }
                for each in self.analysis.responses
            ],
            "extras": [{**asdict(each), "verdict": each.verdict} for each in self.analysis.extras],
            "control": {**asdict(self.control), "noticed": self.control.noticed} if self.control else None,
            "failures": [{"image": image, "reason": reason} for image, reason in self.failures],
            "environment": dict(self.environment),
            "images": list(self.scores.images),
            "errors": {
                subject: {
                    str(condition): [round(value, 6) for value in self.scores.errors[i, j].tolist()]
                    for j, condition in enumerate(self.scores.conditions)
                }
                for i, subject in enumerate(self.scores.subjects)
            },
        }


def fp32_pairs(candidates: Mapping[str, tuple[Candidate, Size]]) -> list[tuple[str, str]]:
    """Pair each subject in another precision, or approximated, with its exact model in FP32 at the same size.

    It is on the same runtime if possible. An exact FP32 subject on a second runtime is not paired.
    """
    found = []
    for name, (one, size) in candidates.items():
        full = [
            (other.runtime != one.runtime, index, title)
            for index, (title, (other, at)) in enumerate(candidates.items())
            if other.is_exact and (other.model, at) == (one.model, size)
        ]
        if not one.is_exact and full:
            found.append((name, min(full)[2]))
    return found


def control_result(scores: ConditionScores, analysis: Robustness, name: str) -> ControlResult:
    """The result of the control condition of that name with the highest level."""
    index = max(scores.places(name), key=lambda place: scores.conditions[place].level)
    return ControlResult(
        str(scores.conditions[index]), {each.subject: each.growth[index] for each in analysis.responses}
    )
