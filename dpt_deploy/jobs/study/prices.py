"""Loss of accuracy of a precision compared with FP32, at every size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.jobs.study.resolution import Scores, paper_range
from dpt_deploy.measure.bootstrap import RESAMPLES, Draws, Estimate


@dataclass(frozen=True)
class Price:
    """A candidate compared with its ``original``, the same model in FP32, on the same images.

    By size, ``abs_rel`` is the increase of the mean AbsRel in percent of the original's and ``delta1`` the increase of
    δ1 in points. ``in_range`` is the additional loss in percentage points over the sizes of the paper's Figure 4.
    """

    candidate: str
    original: str
    abs_rel: tuple[Estimate, ...]
    delta1: tuple[Estimate, ...]
    in_range: Estimate

    @property
    def worst_abs_rel(self) -> Estimate:
        """The largest increase of AbsRel at any size."""
        return max(self.abs_rel, key=lambda estimate: estimate.value)

    @property
    def worst_delta1(self) -> Estimate:
        """The largest decrease of δ1 at any size."""
        return min(self.delta1, key=lambda estimate: estimate.value)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON."""
        found = asdict(self)
        return {"subject": found.pop("candidate"), **found}


def price(
    scores: Scores, delta1: NDArray[np.float64], candidate: str, original: str, *, seed: int, resamples: int = RESAMPLES
) -> Price:
    """Compare two candidates; ``delta1`` (candidates, sizes, images) holds the δ1 of every image."""
    weights = scores.weights(seed, resamples)
    # means over the images of each draw: (draws, sizes)
    own, full = scores.candidates.index(candidate), scores.candidates.index(original)
    errors = {index: weights @ scores.values[index].T for index in (own, full)}
    shares = {index: weights @ delta1[index].T for index in (own, full)}
    losses = {index: 100 * (each / each[:, [scores.reference]] - 1) for index, each in errors.items()}
    inside = list(paper_range(scores.sizes, scores.trained))
    return Price(
        candidate,
        original,
        _each(100 * (errors[own] / errors[full] - 1)),
        _each(100 * (shares[own] - shares[full])),
        Estimate.of((losses[own] - losses[full])[:, inside].mean(axis=1)),
    )


def _each(draws: Draws) -> tuple[Estimate, ...]:
    return tuple(Estimate.of(column) for column in draws.T)
