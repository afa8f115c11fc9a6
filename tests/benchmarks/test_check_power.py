"""The power of `study --check`: few alarms where nothing has changed, an alarm in every study where much has."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.paths import ROOT
from support.scripts import load_script
from support.study import made

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.study.agreement import agreement, read_recorded

pytestmark = pytest.mark.fast

script = load_script("check_power")

KINDS = ("room",) * 20 + ("table",) * 12 + ("close-up",) * 8


def of_kinds(study):
    return replace(study, scores=replace(study.scores, kinds=KINDS))


def written(study, folder, **changes):
    path = folder / "study.json"
    path.write_text(json.dumps(study.to_dict() | changes))
    return path


@pytest.fixture(scope="module")
def power(tmp_path_factory):
    return script.check_power(
        written(of_kinds(made(noise=0.2)), tmp_path_factory.mktemp("power")), images=20, trials=40
    )


def test_little_is_detected_where_nothing_has_changed_and_everything_where_much_has(power):
    unchanged, found = power["unchanged"], power["changed"]
    assert unchanged["share"] < 0.5
    assert [(each["subject"], each["points"]) for each in found[:2]] == [("hybrid", 10), ("vit", 10)]
    assert [each["share"] for each in found[-4:]] == [1.0] * 4
    for few, many in zip(found[:4], found[-4:], strict=True):
        assert few["share"] <= many["share"]
        assert unchanged["intervals"] < few["intervals"] < many["intervals"]


def test_intervals_cover_what_they_should(power):
    assert all(0.8 < share <= 1 for share in power["covered"].values())
    assert [power[key] for key in ("recorded_images", "images", "intervals", "trials")] == [40, 20, 12, 40]


def test_intervals_that_are_too_narrow_are_noticed(tmp_path, monkeypatch):
    def narrow(*given):
        return [replace(each, low=each.value - 1e-9, high=each.value + 1e-9) for each in losses(*given)]

    losses = script.losses
    monkeypatch.setattr(script, "losses", narrow)
    found = script.check_power(written(of_kinds(made(noise=0.2)), tmp_path), images=20, trials=5)
    assert max(found["covered"].values()) < 0.1
    assert found["unchanged"]["share"] == 1.0


def test_the_same_seed_measures_the_same(tmp_path):
    path = written(made(noise=0.2), tmp_path)
    first, again, other = (script.check_power(path, images=10, trials=5, seed=seed) for seed in (1, 1, 2))
    for each in (first, again, other):
        del each["recorded"], each["seed"]
    assert first == again != other


def test_a_drawn_study_has_the_shares_of_kinds_and_names_of_its_own():
    found = script.drawn(of_kinds(made()).scores, 20, np.random.default_rng(0))
    assert [found.kinds.count(kind) for kind in ("room", "table", "close-up")] == [10, 6, 4]
    assert len(set(found.images)) == 20
    whole = of_kinds(made()).scores
    for index, name in enumerate(found.images):
        source = whole.images.index(name.partition("-")[2])
        assert (found.values[:, :, index] == whole.values[:, :, source]).all()
        assert (found.plane[index], found.kinds[index]) == (whole.plane[source], whole.kinds[source])


@pytest.mark.parametrize("count", range(2, 80, 7))
def test_as_many_images_are_drawn_as_were_asked_for(count):
    found = script.drawn(of_kinds(made()).scores, count, np.random.default_rng(0))
    assert len(found.images) == len(found.kinds) == count
    for kind in ("room", "table", "close-up"):
        assert abs(found.kinds.count(kind) - count * KINDS.count(kind) / len(KINDS)) <= 1


def test_images_without_kinds_are_drawn_from_all():
    found = script.drawn(made().scores, 80, np.random.default_rng(0))
    assert (len(found.images), found.kinds) == (80, ())


def test_a_planted_change_adds_its_points_to_one_candidate_alone():
    scores = made().scores
    before, after = script.losses(scores, 0), script.losses(script.changed(scores, 1, 10), 0)
    gained = [one.value - other.value for one, other in zip(after, before, strict=True)]
    assert gained == pytest.approx([0] * 3 + [10] * 3 + [0] * 6, abs=1e-9)
    assert (script.changed(scores, 1, 10).values[:, 0] == scores.values[:, 0]).all()


def test_what_is_compared_is_what_check_compares(tmp_path):
    study = made()
    met = agreement(study, read_recorded(written(study, tmp_path)))
    assert met.compared == len(script.losses(study.scores, 0))


@pytest.mark.parametrize("asked", [{"images": 1}, {"trials": 0}])
def test_too_little_to_measure_is_refused(asked, tmp_path):
    with pytest.raises(UsageError, match="expected two images and one trial"):
        script.check_power(written(made(), tmp_path), **asked)


def test_committed_studies_can_be_measured():
    results = ROOT / "benchmarks" / "results"
    for path in results.glob("resolution-study-shipped-*.json"):
        assert script.check_power(path, trials=1)["intervals"] == 28
