"""Statistics of errors under conditions: how much each subject loses, and whether one loses more than another.

A *subject* is a model at a precision, on a runtime, at a size. A *condition* is a kind of damage at a level. The growth
under a condition is the mean error there minus the mean error on clean images, of the same subject on the same images.
All subjects and conditions share the resamples of the bootstrap, so differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.measure.bootstrap import RESAMPLES, Draws, Estimate, image_weights

Verdict = Literal["loses more", "loses less", "not distinguishable"]


@dataclass(frozen=True)
class Condition:
    """A kind of damage at a level; a ``control`` is left out of all averages."""

    name: str
    level: float
    control: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.level:g}" if self.level else self.name


CLEAN = Condition("clean", 0, control=True)


@dataclass(frozen=True)
class ConditionScores:
    """Errors in 0..1 of every subject under every condition on every image: (subjects, conditions, images).

    The first condition is :data:`CLEAN`. ``kinds`` (images,) are the kinds whose shares resamples keep.

    Raises:
        BadFileError: fewer than two images are left, so there is no interval.
    """

    subjects: tuple[str, ...]
    conditions: tuple[Condition, ...]
    images: tuple[str, ...]
    errors: NDArray[np.float64]
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.subjects), len(self.conditions), len(self.images))
        if self.errors.shape != shape or self.conditions[0] != CLEAN:
            raise ValueError(f"errors of shape {self.errors.shape} for {shape}")
        if len(self.images) < 2:
            raise BadFileError(
                f"{len(self.images)} image(s) to measure on; expected at least two", hint="give more images"
            )

    def names(self) -> list[str]:
        """Names of the conditions without the controls, in order."""
        return list(dict.fromkeys(each.name for each in self.conditions if not each.control))

    def places(self, name: str) -> list[int]:
        """Indices of the conditions of that name."""
        return [index for index, each in enumerate(self.conditions) if each.name == name]

    @property
    def damaged(self) -> list[int]:
        """Indices of the conditions without the controls."""
        return [index for index, each in enumerate(self.conditions) if not each.control]


@dataclass(frozen=True)
class Response:
    """One subject under all conditions, errors and growths in percent.

    ``error`` and ``growth`` have one entry for each condition, ``growth_by_name`` one for each name without controls.
    ``resilience`` is mRR, the mean over names of (1 - error) over (1 - error on clean images). ``relative`` is mCE, the
    mean over names of the error over that of the baseline; None without a baseline.
    """

    subject: str
    error: tuple[Estimate, ...]
    growth: tuple[Estimate, ...]
    growth_by_name: dict[str, Estimate]
    overall: Estimate
    resilience: Estimate
    relative: Estimate | None


@dataclass(frozen=True)
class ExtraGrowth:
    """Growth of ``subject`` minus that of ``original`` in points: by condition, by name, and on average.

    ``share`` is the average growth of ``subject`` in percent of that of ``original``.
    """

    subject: str
    original: str
    by_condition: tuple[Estimate, ...]
    by_name: dict[str, Estimate]
    overall: Estimate
    share: Estimate

    @property
    def verdict(self) -> Verdict:
        """Conclusion from the interval of the average."""
        return verdict(self.overall)


@dataclass(frozen=True)
class Robustness:
    """Statistics of all scores."""

    responses: tuple[Response, ...]
    extras: tuple[ExtraGrowth, ...]


def verdict(extra: Estimate) -> Verdict:
    """Return ``loses more`` if the whole interval lies above zero, ``loses less`` if below."""
    if extra.low > 0:
        return "loses more"
    return "loses less" if extra.high < 0 else "not distinguishable"


def analyse(
    scores: ConditionScores, pairs: Sequence[tuple[str, str]], *, seed: int = 0, resamples: int = RESAMPLES
) -> Robustness:
    """Compute the responses, and the extra growth of the first subject of each pair over the second.

    The second one is also the baseline of the first for mCE.
    """
    weights = image_weights(scores.kinds or len(scores.images), seed, resamples)
    draws = np.einsum("rn,skn->rsk", weights, scores.errors)  # mean over the images of each draw
    at = {name: draws[:, index] for index, name in enumerate(scores.subjects)}
    baselines = dict(pairs)
    responses = tuple(_response(scores, at, name, baselines.get(name)) for name in scores.subjects)
    return Robustness(responses, tuple(_extra(scores, at, *pair) for pair in pairs))


def _response(scores: ConditionScores, at: dict[str, Draws], subject: str, baseline: str | None) -> Response:
    errors, names = at[subject], scores.names()
    growth = errors - errors[:, :1]
    mean = {name: errors[:, scores.places(name)].mean(axis=1) for name in names}
    kept = np.mean([(1 - mean[name]) / (1 - errors[:, 0]) for name in names], axis=0)
    relative = None
    if baseline:
        own = [mean[name] / at[baseline][:, scores.places(name)].mean(axis=1) for name in names]
        relative = Estimate.of(np.mean(own, axis=0) * 100)
    return Response(
        subject,
        _each(100 * errors),
        _each(100 * growth),
        {name: Estimate.of(100 * growth[:, scores.places(name)].mean(axis=1)) for name in names},
        Estimate.of(100 * growth[:, scores.damaged].mean(axis=1)),
        Estimate.of(100 * kept),
        relative,
    )


def _extra(scores: ConditionScores, at: dict[str, Draws], subject: str, original: str) -> ExtraGrowth:
    growths = {name: 100 * (at[name] - at[name][:, :1]) for name in (subject, original)}
    more = growths[subject] - growths[original]
    return ExtraGrowth(
        subject,
        original,
        _each(more),
        {name: Estimate.of(more[:, scores.places(name)].mean(axis=1)) for name in scores.names()},
        Estimate.of(more[:, scores.damaged].mean(axis=1)),
        Estimate.of(100 * _mean_of(growths[subject], scores) / _mean_of(growths[original], scores)),
    )


def difference(scores: ConditionScores, one: Condition, other: Condition, *, seed: int) -> dict[str, Estimate]:
    """Error of every subject under ``one`` minus that under ``other``, in points, paired."""
    weights = image_weights(scores.kinds or len(scores.images), seed, RESAMPLES)
    first, second = (scores.errors[:, scores.conditions.index(each)] for each in (one, other))
    return {
        subject: Estimate.of(100 * weights @ (first[index] - second[index]))
        for index, subject in enumerate(scores.subjects)
    }


def _mean_of(growths: Draws, scores: ConditionScores) -> Draws:
    """Mean over the conditions without the controls; never zero, so that a share stays a number."""
    mean = growths[:, scores.damaged].mean(axis=1)
    return np.where(mean == 0, np.finfo(np.float64).tiny, mean)


def _each(draws: Draws) -> tuple[Estimate, ...]:
    return tuple(Estimate.of(column) for column in draws.T)
