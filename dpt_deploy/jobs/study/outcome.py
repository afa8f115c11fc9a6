"""A finished resolution study as data: candidates, images, results and caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

from dpt_deploy.core.precision import FP32
from dpt_deploy.jobs.study.prices import Price
from dpt_deploy.jobs.study.resolution import Analysis, Curve, Scores, analyse, ratio
from dpt_deploy.measure.bootstrap import Estimate

KIND = "resolution-study"
RECORD = "study.json"
STAGED = "study"  # name of the private folder in which the results are prepared
PICTURES = ("figure.svg", "figure.png", "report.html")
NUMBERS = ("study.csv", RECORD)
Family = Literal["transformer", "convolutional"]


@dataclass(frozen=True)
class Candidate:
    """A model on a runtime at a precision. ``weights`` is their source; ``control`` names a planted defect,
    ``approximation`` an approximate rewrite of the network."""

    name: str
    model: str
    family: Family
    runtime: str
    precision: str
    file: str
    sha256: str
    weights: str
    random: bool = False
    control: str = ""
    approximation: str = ""

    @property
    def is_exact(self) -> bool:
        """True for the network itself in FP32, which others are compared with."""
        return self.precision == FP32 and not self.approximation


@dataclass(frozen=True)
class Data:
    """Data of a study: the name of the set, the protocol, and a key that identifies the set."""

    name: str
    protocol: str
    key: str
    seed: int | None = None


@dataclass(frozen=True)
class PublishedNumber:
    """A published number and the measured one (``ours``): same metric and data, in the units of the source."""

    source: str
    model: str
    metric: str
    published: float
    ours: Estimate
    images: str


@dataclass(frozen=True)
class Study:
    """Scores, their analysis and their provenance; ``prices`` compare every precision with FP32.

    ``failures`` are (image, reason) of unusable images; ``no_control`` is the reason if there is no control.
    """

    data: Data
    candidates: tuple[Candidate, ...]
    scores: Scores
    analysis: Analysis
    failures: tuple[tuple[str, str], ...]
    no_control: str
    environment: dict[str, object]
    seed: int
    references: tuple[PublishedNumber, ...] = ()
    prices: tuple[Price, ...] = ()

    @property
    def models(self) -> tuple[Candidate, ...]:
        """Candidates without the control."""
        return tuple(candidate for candidate in self.candidates if not candidate.control)

    @property
    def measures_something(self) -> bool:
        """True if the planted defect was noticed, or if there is none (see ``no_control``)."""
        return self.analysis.control is None or self.analysis.control.noticed

    @property
    def random(self) -> tuple[str, ...]:
        """Names of the models with random weights."""
        return tuple(candidate.name for candidate in self.models if candidate.random)

    @property
    def interval(self) -> str:
        """Method of the intervals."""
        kept = ", shares of kinds kept" if self.scores.stratified else ""
        return f"95 % percentile bootstrap over images, paired{kept}"

    def curve(self, name: str) -> Curve:
        """Return the curve of a candidate."""
        return next(curve for curve in self.analysis.curves if curve.candidate == name)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the sizes as (ratio to the training size, label)."""
        return [(ratio(size, self.scores.trained), str(size)) for size in self.scores.sizes]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per candidate and size, with every number of the figure."""
        found = []
        for candidate in self.candidates:
            curve = self.curve(candidate.name)
            for index, (times, size) in enumerate(self.ticks()):
                row: dict[str, Any] = {"subject": candidate.name, "size": size, "times_training_size": round(times, 4)}
                row["images"] = len(self.scores.images)
                for name, estimate in (
                    ("abs_rel", curve.error[index]),
                    ("loss_percent", curve.loss[index]),
                    ("share_of_plane", curve.share_of_plane[index]),
                ):
                    row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
                found.append(row)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON, with the error of every image."""
        control = self.analysis.control
        return {
            "kind": KIND,
            "measures_something": self.measures_something,
            "data": {**asdict(self.data), "images": len(self.scores.images)},
            "trained": str(self.scores.trained),
            "sizes": [str(size) for size in self.scores.sizes],
            "statistics": {"interval": self.interval, "seed": self.seed},
            "subjects": [asdict(candidate) for candidate in self.candidates],
            "rows": self.rows(),
            "loss_in_paper_range": {curve.candidate: asdict(curve.in_range) for curve in self.analysis.curves},
            "plane_abs_rel": asdict(self.analysis.plane),
            "comparisons": [each.to_dict() for each in self.analysis.comparisons],
            "precisions": [each.to_dict() for each in self.prices],
            "control": {**asdict(control), "noticed": control.noticed} if control else {"none": self.no_control},
            "references": [asdict(reference) for reference in self.references],
            "failures": [{"image": image, "reason": reason} for image, reason in self.failures],
            "environment": self.environment,
            "images": list(self.scores.images),
            "kinds": list(self.scores.kinds),
            "abs_rel": {
                candidate: {str(size): self.scores.values[i, j].tolist() for j, size in enumerate(self.scores.sizes)}
                for i, candidate in enumerate(self.scores.candidates)
            },
            "abs_rel_of_plane": self.scores.plane.tolist(),
        }


def pairs(candidates: Sequence[Candidate]) -> list[tuple[str, str]]:
    """Return the pairs that the paper compares: transformers and convolutional networks in equal conditions."""
    models = [candidate for candidate in candidates if not candidate.control]
    return [
        (one.name, other.name)
        for one, other in product(models, models)
        if (one.family, other.family) == ("transformer", "convolutional")
        and (one.runtime, one.precision, one.approximation) == (other.runtime, other.precision, other.approximation)
    ]


def originals(candidates: Sequence[Candidate]) -> list[tuple[str, str]]:
    """Pair each candidate in another precision, or approximated, with its exact model in FP32.

    It is on the same runtime if possible.
    """
    models = [candidate for candidate in candidates if not candidate.control]
    found = []
    for one in (each for each in models if not each.is_exact):
        full = [each for each in models if each.model == one.model and each.is_exact]
        if full:
            found.append((one.name, min(full, key=lambda each, one=one: each.runtime != one.runtime).name))  # type: ignore[misc]
    return found


def analysed(candidates: Sequence[Candidate], scores: Scores, original: str | None, seed: int) -> Analysis:
    """Analyse ``scores``; ``original`` is the candidate that the control is compared with."""
    control = next((candidate.name for candidate in candidates if candidate.control), None)
    return analyse(scores, pairs(candidates), (control, original) if control and original else None, seed=seed)


def hardest(scores: Scores, candidate: str, count: int) -> list[tuple[str, float]]:
    """Return the images with the largest errors of a candidate at the training size, and the errors."""
    errors = scores.values[scores.candidates.index(candidate), scores.reference]
    order = errors.argsort(kind="stable")[::-1][:count]
    return [(scores.images[index], float(errors[index])) for index in order]
