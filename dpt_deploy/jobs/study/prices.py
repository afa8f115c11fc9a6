"""What a precision costs beside FP32, at every size, and whether it keeps the graceful degradation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.jobs.study.resolution import Scores, paper_range
from dpt_deploy.measure.bootstrap import RESAMPLES, Draws, Estimate


@dataclass(frozen=True)
class Price:
    """A candidate beside the ``original``, the same model in FP32: a pair on the same images.

    By size: ``abs_rel`` is by how much the mean AbsRel is larger, in percent of the original's; ``delta1`` by how much
    δ1 is larger, in points. ``in_range``: how many points of percent more it loses over the range of the paper's
    Figure 4.
    """

    candidate: str
    original: str
    abs_rel: tuple[Estimate, ...]
    delta1: tuple[Estimate, ...]
    in_range: Estimate

    @property
    def worst_abs_rel(self) -> Estimate:
        """The largest growth of AbsRel at any size."""
        return max(self.abs_rel, key=lambda estimate: estimate.value)

    @property
    def worst_delta1(self) -> Estimate:
        """The largest fall of δ1 at any size."""
        return min(self.delta1, key=lambda estimate: estimate.value)


def price(
    scores: Scores, delta1: NDArray[np.float64], candidate: str, original: str, *, seed: int, resamples: int = RESAMPLES
) -> Price:
    """Compare two candidates; ``delta1`` (candidates, sizes, images) is the share of pixels within 1.25 of the truth."""
    weights = scores.weights(seed, resamples)
    ours, full = scores.candidates.index(candidate), scores.candidates.index(original)
    errors = {index: _means(weights, scores.values[index]) for index in (ours, full)}
    shares = {index: _means(weights, delta1[index]) for index in (ours, full)}
    losses = {index: 100 * (each / each[:, [scores.reference]] - 1) for index, each in errors.items()}
    inside = list(paper_range(scores.sizes, scores.trained))
    return Price(
        candidate,
        original,
        _each(100 * (errors[ours] / errors[full] - 1)),
        _each(100 * (shares[ours] - shares[full])),
        Estimate.of((losses[ours] - losses[full])[:, inside].mean(axis=1)),
    )


def _means(weights: Draws, values: NDArray[np.float64]) -> Draws:
    """(draws, sizes) of values (sizes, images)."""
    return weights @ values.T


def _each(draws: Draws) -> tuple[Estimate, ...]:
    return tuple(Estimate.of(column) for column in draws.T)
