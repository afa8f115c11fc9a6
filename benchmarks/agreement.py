"""How far can ``study --check`` be trusted? How often it finds a study apart where nothing, or something, has changed.

The errors of a recorded study stand for all scenes there are. From them, kind by kind, a record of as many scenes and
a study of fewer are drawn; both are analysed as any study is, and compared as ``--check`` compares. A change is planted
by raising the errors of one model at every size but the trained one, by so many points of its loss there.

Usage: python benchmarks/agreement.py [STUDY.json [SCENES [TRIALS]]]
"""

import json
import sys
from pathlib import Path

import numpy as np

from dpt_deploy.core.spec import parse_size
from dpt_deploy.study.resolution import Scores, analyse

RESULTS = Path(__file__).parent / "results"
RESAMPLES = 1000
POINTS = (10, 20, 40)  # of loss in percent that are planted


def _read(path):
    """The scores of a recorded study."""
    data = json.loads(path.read_text())
    sizes = tuple(map(parse_size, data["sizes"]))
    values = np.array([list(by_size.values()) for by_size in data["abs_rel"].values()])
    plane = np.array(data["abs_rel_of_plane"])
    trained = parse_size(data["trained"])
    return Scores(tuple(data["abs_rel"]), sizes, trained, tuple(data["images"]), values, plane, tuple(data["kinds"]))


def _drawn(scores, share, rng):
    """``share`` of the scenes of every kind, drawn with replacement."""
    kinds = np.array(scores.kinds)
    chosen = []
    for kind in dict.fromkeys(scores.kinds):
        members = np.flatnonzero(kinds == kind)
        chosen += list(rng.choice(members, round(share * len(members))))
    names = tuple(f"{index}-{scores.images[image]}" for index, image in enumerate(chosen))
    values, plane = scores.values[:, :, chosen], scores.plane[chosen]
    return Scores(scores.subjects, scores.sizes, scores.trained, names, values, plane, tuple(kinds[chosen]))


def _changed(scores, subject, points):
    """The same scores, but that one subject loses ``points`` more at every size but the trained."""
    values = scores.values.copy()
    others = [index for index in range(len(scores.sizes)) if index != scores.reference]
    values[subject, others] += points / 100 * values[subject, scores.reference]
    return Scores(scores.subjects, scores.sizes, scores.trained, scores.images, values, scores.plane, scores.kinds)


def _losses(scores, seed):
    """The loss of every subject at every size but the trained, with its interval."""
    curves = analyse(scores, [], seed=seed, resamples=RESAMPLES).curves
    return [loss for curve in curves for index, loss in enumerate(curve.loss) if index != scores.reference]


def _apart(record, study):
    """How many intervals of two studies do not meet."""
    return sum(not one.meets(other) for one, other in zip(record, study, strict=True))


def _covered(losses, truth):
    """The share of intervals that the truth lies in."""
    return np.mean([each.low <= value <= each.high for each, value in zip(losses, truth, strict=True)])


def _trials(population, scenes, count):
    """Pairs of the losses of a record and the scores of a study."""
    rng = np.random.default_rng(0)
    for trial in range(count):
        record = _losses(_drawn(population, 1, rng), 2 * trial)
        yield record, _drawn(population, scenes / len(population.images), rng)


def main():
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else max(RESULTS.glob("resolution-study-shipped-*.json"))
    scenes, count = (
        int(sys.argv[index]) if len(sys.argv) > index else default for index, default in ((2, 48), (3, 300))
    )
    population = _read(path)
    truth = [loss.value for loss in _losses(population, 0)]
    print(
        f"{path.name}: {len(population.images)} scenes beside {scenes} others, {len(truth)} intervals, {count} trials"
    )
    trials = list(_trials(population, scenes, count))
    unchanged = [_losses(study, 2 * trial + 1) for trial, (_, study) in enumerate(trials)]
    for number, found in ((len(population.images), [record for record, _ in trials]), (scenes, unchanged)):
        print(f"intervals of {number} scenes cover {100 * np.mean([_covered(each, truth) for each in found]):.1f} %")
    _say("nothing has changed", [_apart(record, found) for (record, _), found in zip(trials, unchanged, strict=True)])
    for points in POINTS:
        for index, subject in enumerate(population.subjects):
            found = [
                _apart(record, _losses(_changed(study, index, points), 2 * trial + 1))
                for trial, (record, study) in enumerate(trials)
            ]
            _say(f"{subject} loses {points} points more", found)


def _say(what, found):
    found = np.array(found)
    print(f"{what}: apart in {100 * (found > 0).mean():.0f} % of studies, by {found.mean():.1f} intervals on average")


if __name__ == "__main__":
    main()
