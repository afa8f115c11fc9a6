"""Measure how far `study --check` can be trusted; writes results/check-power-….json.

Usage: python benchmarks/check_power.py [STUDY.json [IMAGES [TRIALS]]]     (default: the shipped models', 48, 300)

The errors of one recorded study stand for all images there are. A record of as many images and a study of fewer are
drawn from them, kind by kind and with replacement. Both are analysed like any study, and their intervals are compared
as `--check` does it. A false alarm is a difference where nothing has changed. A planted change raises the errors of one
model by some points of its loss at every size but the trained one; its detection rate is the power of the check.
"""

import datetime
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.study.agreement import read_scores
from dpt_deploy.jobs.study.resolution import analyse
from dpt_deploy.measure.bootstrap import RESAMPLES

POINTS = (10, 20, 40)  # of loss in percent that are planted


@dataclass(frozen=True)
class Alarms:
    """The ``share`` of studies in which an interval is apart, and the mean number of ``intervals`` apart."""

    share: float
    intervals: float


def main(path=None, images="48", trials="300"):
    results = Path(__file__).parent / "results"
    path = Path(path or max(results.glob("resolution-study-shipped-*.json")))
    result = check_power(path, images=int(images), trials=int(trials))
    target = results / f"check-power-{path.stem.removeprefix('resolution-study-')}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(target)


def check_power(path, *, images=48, trials=300, seed=0):
    """The alarms of ``study --check`` against the recorded study ``path`` in ``trials`` studies of ``images`` others.

    ``covered`` is the share of 95 % intervals that contain the true value, for the records and for the studies.

    Raises:
        BadFileError: ``path`` is not a recorded study.
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
    detected = []
    for points in POINTS:
        for index, candidate in enumerate(population.candidates):
            found = [losses(changed(study, index, points), 2 * trial + 1) for trial, study in enumerate(studies)]
            detected.append({"subject": candidate, "points": points, **vars(alarms(records, found))})
    return {
        "kind": "check-power",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "study": path.name,
        "recorded_images": whole,
        "images": images,
        "intervals": len(truth),
        "trials": trials,
        "seed": seed,
        "covered": {"record": covered(records, truth), "study": covered(unchanged, truth)},
        "unchanged": vars(alarms(records, unchanged)),
        "changed": detected,
    }


def drawn(scores, count, rng):
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


def changed(scores, candidate, points):
    """Scores in which one candidate loses ``points`` more at every size but the trained one."""
    values = scores.values.copy()
    values[candidate, scores.others] += points / 100 * values[candidate, scores.reference]
    return replace(scores, values=values)


def losses(scores, seed):
    """Estimates of the loss in percent of every candidate at every size but the trained one."""
    curves = analyse(scores, [], seed=seed, resamples=RESAMPLES // 4).curves  # of each of thousands of analyses
    return [curve.loss[index] for curve in curves for index in scores.others]


def alarms(records, studies):
    """Count how often, and by how many intervals, studies disagree with their records."""
    apart = np.array(
        [
            sum(not one.meets(other) for one, other in zip(record, study, strict=True))
            for record, study in zip(records, studies, strict=True)
        ]
    )
    return Alarms(float((apart > 0).mean()), float(apart.mean()))


def covered(found, truth):
    """The share of intervals in which the true value lies."""
    inside = [
        each.low <= true.value <= each.high for estimates in found for each, true in zip(estimates, truth, strict=True)
    ]
    return float(np.mean(inside))


if __name__ == "__main__":
    main(*sys.argv[1:])
