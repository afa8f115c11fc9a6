"""How often a comparison of studies sounds: rarely where nothing has changed, always where much has."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.paths import ROOT
from support.study import made

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.study.agreement import agreement, read_recorded, read_scores
from dpt_deploy.jobs.study.power import changed, drawn, losses, measure_check_power

pytestmark = pytest.mark.fast

KINDS = ("room",) * 20 + ("table",) * 12 + ("close-up",) * 8


def of_kinds(study):
    return replace(study, scores=replace(study.scores, kinds=KINDS))


def written(study, folder, **changes):
    path = folder / "study.json"
    path.write_text(json.dumps(study.to_dict() | changes))
    return path


@pytest.fixture(scope="module")
def power(tmp_path_factory):
    return measure_check_power(
        written(of_kinds(made(noise=0.2)), tmp_path_factory.mktemp("power")), images=20, trials=40
    )


def test_little_is_noticed_where_nothing_has_changed_and_everything_where_much_has(power):
    assert power.false.share < 0.5
    assert [each.change for each in power.noticed[:2]] == ["hybrid loses 10 points more", "vit loses 10 points more"]
    assert [each.share for each in power.noticed[-4:]] == [1.0] * 4
    for few, many in zip(power.noticed[:4], power.noticed[-4:], strict=True):
        assert few.share <= many.share
        assert power.false.apart < few.apart < many.apart


def test_intervals_cover_what_they_should(power):
    assert all(0.8 < share <= 1 for share in power.covered)
    assert (power.recorded, power.images, power.intervals, power.trials) == (40, 20, 12, 40)


def test_intervals_that_are_too_narrow_are_noticed(tmp_path, monkeypatch):
    def narrow(*given):
        return [replace(each, low=each.value - 1e-9, high=each.value + 1e-9) for each in losses(*given)]

    monkeypatch.setattr("dpt_deploy.jobs.study.power.losses", narrow)
    found = measure_check_power(written(of_kinds(made(noise=0.2)), tmp_path), images=20, trials=5)
    assert max(found.covered) < 0.1
    assert found.false.share == 1.0


def test_it_says_what_was_measured(power):
    lines = str(power).splitlines()
    assert lines[0] == "study.json: 40 images beside 20 others, 12 intervals, 40 trials"
    assert lines[1].startswith("intervals of 40 images cover ")
    assert lines[3].startswith("nothing has changed: apart in ")
    assert lines[-1].startswith("vit-nearest loses 40 points more: apart in 100 % of studies, by ")
    assert len(lines) == 3 + 1 + len(power.noticed)


def test_the_same_seed_measures_the_same(tmp_path):
    path = written(made(), tmp_path)
    first, again, other = (measure_check_power(path, images=10, trials=3, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_drawn_study_has_the_shares_of_kinds_and_names_of_its_own():
    found = drawn(of_kinds(made()).scores, 20, np.random.default_rng(0))
    assert [found.kinds.count(kind) for kind in ("room", "table", "close-up")] == [10, 6, 4]
    assert len(set(found.images)) == 20
    whole = of_kinds(made()).scores
    for index, name in enumerate(found.images):
        source = whole.images.index(name.partition("-")[2])
        assert (found.values[:, :, index] == whole.values[:, :, source]).all()
        assert (found.plane[index], found.kinds[index]) == (whole.plane[source], whole.kinds[source])


@pytest.mark.parametrize("count", range(2, 80, 7))
def test_as_many_images_are_drawn_as_were_asked_for(count):
    found = drawn(of_kinds(made()).scores, count, np.random.default_rng(0))
    assert len(found.images) == len(found.kinds) == count
    for kind in ("room", "table", "close-up"):
        assert abs(found.kinds.count(kind) - count * KINDS.count(kind) / len(KINDS)) <= 1


def test_images_without_kinds_are_drawn_from_all():
    found = drawn(made().scores, 80, np.random.default_rng(0))
    assert (len(found.images), found.kinds) == (80, ())


def test_a_planted_change_adds_its_points_to_one_subject_alone():
    scores = made().scores
    before, after = losses(scores, 0), losses(changed(scores, 1, 10), 0)
    gained = [one.value - other.value for one, other in zip(after, before, strict=True)]
    assert gained == pytest.approx([0] * 3 + [10] * 3 + [0] * 6, abs=1e-9)
    assert (changed(scores, 1, 10).values[:, 0] == scores.values[:, 0]).all()


def test_what_is_compared_is_what_check_compares(tmp_path):
    study = made()
    met = agreement(study, read_recorded(written(study, tmp_path)))
    assert met.compared == len(losses(study.scores, 0))


def test_the_scores_of_a_record_are_those_that_were_written(tmp_path):
    study = of_kinds(made())
    found = read_scores(written(study, tmp_path))
    assert (found.values == study.scores.values).all()
    assert (found.plane == study.scores.plane).all()
    assert replace(found, values=study.scores.values, plane=study.scores.plane) == study.scores


@pytest.mark.parametrize(
    "change",
    [
        {"abs_rel_of_plane": [1.0]},
        {"abs_rel_of_plane": [float("nan")] * 40},
        {"sizes": ["192", "big", "320", "512"]},
        {"trained": "64"},
        {"kinds": None},
        {"abs_rel": {"vit": {"192": [0.5]}}},
    ],
    ids=str,
)
def test_a_record_with_other_scores_than_it_says_is_refused(change, tmp_path):
    with pytest.raises(BadFileError, match="is no recorded study"):
        read_scores(written(made(), tmp_path, **change))


@pytest.mark.parametrize("asked", [{"images": 1}, {"trials": 0}])
def test_too_little_to_measure_is_refused(asked, tmp_path):
    with pytest.raises(UsageError, match="expected two images and one trial"):
        measure_check_power(written(made(), tmp_path), **asked)


def test_committed_studies_can_be_measured():
    results = ROOT / "benchmarks" / "results"
    for path in results.glob("resolution-study-shipped-*.json"):
        assert dpt_deploy.measure_check_power(path, trials=1).intervals == 28
