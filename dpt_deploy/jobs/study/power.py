"""How far can a comparison of two studies be trusted? How often it sounds where nothing, or something, has changed.

The errors of one recorded study stand for all images there are. From them, kind by kind and with replacement, a record
of as many images and a study of fewer are drawn; both are analysed as any study is, and their intervals compared as
:func:`~dpt_deploy.jobs.study.agreement.agreement` does. What is planted is a rise of one
subject's errors at every size but the trained one, by so many points of its loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.study.agreement import read_scores
from dpt_deploy.jobs.study.resolution import Scores, analyse
from dpt_deploy.measure.bootstrap import RESAMPLES, Estimate

POINTS = (10, 20, 40)  # of loss in percent that are planted
_RESAMPLES = RESAMPLES // 4  # of each of thousands of analyses


@dataclass(frozen=True)
class Alarms:
    """After ``change``, the ``share`` of studies with an interval apart, and the mean number of intervals ``apart``."""

    change: str
    share: float
    apart: float

    def __str__(self) -> str:
        return f"{self.change}: apart in {100 * self.share:.0f} % of studies, by {self.apart:.1f} intervals on average"


@dataclass(frozen=True)
class Power:
    """What ``trials`` pairs of a record of ``recorded`` images and a study of ``images`` showed.

    ``covered`` is the share of 95 % intervals in which the truth lies, of the records and of the studies. ``intervals``
    are compared in each pair. ``false`` are the alarms where nothing has changed, ``noticed`` those after each change.
    """

    source: Path
    recorded: int
    images: int
    intervals: int
    trials: int
    covered: tuple[float, float]
    false: Alarms
    noticed: tuple[Alarms, ...]

    def __str__(self) -> str:
        pairs = f"{self.recorded} images beside {self.images} others"
        return "\n".join(
            [
                f"{self.source.name}: {pairs}, {self.intervals} intervals, {self.trials} trials",
                *(
                    f"intervals of {images} images cover {100 * share:.1f} %"
                    for images, share in zip((self.recorded, self.images), self.covered, strict=True)
                ),
                *map(str, (self.false, *self.noticed)),
            ]
        )


def measure_check_power(path: Path, *, images: int = 48, trials: int = 300, seed: int = 0) -> Power:
    """How often ``study --check`` sounds against the recorded study ``path`` in a study of ``images`` other images.

    Raises:
        BadFileError: ``path`` is no recorded study.
        UsageError: fewer than two images or no trials.
    """
    population = read_scores(path)
    if images < 2 or trials < 1:
        raise UsageError(f"{images} images in {trials} trials; expected two images and one trial at least")
    truth = losses(population, 0)
    rng = np.random.default_rng(seed)
    whole = len(population.images)
    records, studies = [], []
    for trial in range(trials):
        records.append(losses(drawn(population, whole, rng), 2 * trial))
        studies.append(drawn(population, images, rng))
    unchanged = [losses(study, 2 * trial + 1) for trial, study in enumerate(studies)]
    return Power(
        path,
        whole,
        images,
        len(truth),
        trials,
        (_covered(records, truth), _covered(unchanged, truth)),
        _alarms("nothing has changed", records, unchanged),
        tuple(_noticed(population.subjects, records, studies)),
    )


def drawn(scores: Scores, count: int, rng: np.random.Generator) -> Scores:
    """``count`` images with replacement, the shares of kinds kept; each has a name of its own."""
    kinds = np.array(scores.kinds or [""] * len(scores.images))
    members = [np.flatnonzero(kinds == kind) for kind in dict.fromkeys(kinds.tolist())]
    ends = np.rint(np.cumsum([len(each) for each in members]) * count / len(kinds)).astype(int)
    counts = np.diff(ends, prepend=0)  # rounded one by one they would not add up to ``count``
    chosen = np.concatenate([rng.choice(each, number) for each, number in zip(members, counts, strict=True)])
    return replace(
        scores,
        images=tuple(f"{index}-{scores.images[image]}" for index, image in enumerate(chosen)),
        values=scores.values[:, :, chosen],
        plane=scores.plane[chosen],
        kinds=tuple(kinds[chosen].tolist()) if scores.kinds else (),
    )


def changed(scores: Scores, subject: int, points: float) -> Scores:
    """The same scores, but that one subject loses ``points`` more at every size but the trained one."""
    values = scores.values.copy()
    values[subject, scores.others] += points / 100 * values[subject, scores.reference]
    return replace(scores, values=values)


def losses(scores: Scores, seed: int) -> list[Estimate]:
    """The loss in percent of every subject at every size but the trained one."""
    curves = analyse(scores, [], seed=seed, resamples=_RESAMPLES).curves
    return [curve.loss[index] for curve in curves for index in scores.others]


def _noticed(
    subjects: Sequence[str], records: Sequence[Sequence[Estimate]], studies: Sequence[Scores]
) -> Iterator[Alarms]:
    for points in POINTS:
        for index, subject in enumerate(subjects):
            found = [losses(changed(study, index, points), 2 * trial + 1) for trial, study in enumerate(studies)]
            yield _alarms(f"{subject} loses {points} points more", records, found)


def _alarms(change: str, records: Sequence[Sequence[Estimate]], studies: Sequence[Sequence[Estimate]]) -> Alarms:
    apart = np.array(
        [
            sum(not one.meets(other) for one, other in zip(record, study, strict=True))
            for record, study in zip(records, studies, strict=True)
        ]
    )
    return Alarms(change, float((apart > 0).mean()), float(apart.mean()))


def _covered(found: Sequence[Sequence[Estimate]], truth: Sequence[Estimate]) -> float:
    inside = [
        each.low <= true.value <= each.high for estimates in found for each, true in zip(estimates, truth, strict=True)
    ]
    return float(np.mean(inside))
