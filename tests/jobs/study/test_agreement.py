"""A study compared with a recorded one: overlapping intervals, differences, and studies that cannot be compared."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.paths import ROOT
from support.study import GROWTH, made

from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError
from dpt_deploy.jobs.study.agreement import agreement, check_candidates, check_comparable, read_recorded, read_scores

pytestmark = pytest.mark.fast

KINDS = ("room",) * 20 + ("table",) * 12 + ("close-up",) * 8
STEEPER = {**GROWTH, "vit": (0, 5, 10, 60)}


def written(study, folder, **changes):
    path = folder / "study.json"
    path.write_text(json.dumps(study.to_dict() | changes))
    return path


@pytest.fixture
def recorded(tmp_path):
    return read_recorded(written(made(), tmp_path))


def test_a_study_meets_itself_at_every_size_but_the_trained(recorded):
    met = agreement(made(), recorded)
    assert (met.compared, met.apart) == (len(GROWTH) * 3, ())
    assert str(met).startswith(f"12 of 12 intervals overlap with those of {recorded.source}; ")
    met.require()


def test_images_that_are_those_of_the_record_are_counted(recorded):
    assert "40 of 40 images are in both studies" in str(agreement(made(), recorded))
    further = made()
    names = tuple(f"scene-{index}" for index in range(30, 70))
    met = agreement(replace(further, scores=replace(further.scores, images=names)), recorded)
    assert (met.shared, met.images) == (10, 40)
    others = replace(further.scores, images=tuple(f"scene-{index}" for index in range(40, 80)))
    assert str(agreement(replace(further, scores=others), recorded)).endswith(str(recorded.source))


def test_a_curve_that_has_moved_is_named_with_both_intervals(recorded):
    met = agreement(made(STEEPER), recorded)
    assert [(each.candidate, each.size) for each in met.apart] == [("vit", "512")]
    assert "vit at 512: 60." in str(met)
    assert ", recorded 25." in str(met)
    with pytest.raises(ParityError, match="1 of 12 losses"):
        met.require()
    assert met.to_dict()["apart"][0]["recorded"]["low"] == pytest.approx(25, abs=1)
    json.dumps(met.to_dict())


def test_other_images_of_the_same_difficulty_meet(recorded):
    assert not agreement(made(images=80), recorded).apart


def test_what_only_one_of_them_has_does_not_count(recorded):
    fewer = made({name: GROWTH[name] for name in ("vit", "conv")})
    assert agreement(fewer, recorded).compared == 2 * 3
    more = agreement(made({**GROWTH, "other": GROWTH["conv"]}), recorded)
    assert (more.compared, more.unknown) == (12, ("other",))
    assert str(more).endswith("not in the recorded study: other")


def test_models_that_were_not_recorded_cannot_be_compared(recorded):
    with pytest.raises(IncompatibleError, match=r"none of other ort fp32; it has conv ort fp32, hybrid ort fp32"):
        agreement(made({"other": GROWTH["conv"]}), recorded)


@pytest.mark.parametrize("change", [{"precision": "int8-cpu"}, {"runtime": "torch"}, {"control": "tiled"}])
def test_a_name_alone_does_not_make_two_candidates_the_same(change, recorded):
    study = made()
    vit = next(each for each in study.candidates if each.name == "vit")
    with pytest.raises(IncompatibleError, match="has none of vit"):
        check_candidates(recorded, [replace(vit, **change)])
    others = tuple(replace(each, **change) if each is vit else each for each in study.candidates)
    met = agreement(replace(study, candidates=others), recorded)
    assert (met.compared, met.unknown) == (9, ("vit",))


def test_candidates_are_found_under_another_name(recorded):
    study = made({"vit ort": GROWTH["vit"]}, no_control="it was not requested")
    met = agreement(replace(study, candidates=(replace(study.candidates[0], model="vit"),)), recorded)
    assert (met.compared, met.apart, met.unknown) == (3, (), ())


SAME = {"data": "rendered scenes", "protocol": "AbsRel", "trained": "192", "sizes": ["192", "256"], "models": ["vit"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "kitti"}, "measured on 'rendered scenes', here 'kitti'"),
        ({"models": ["other"]}, "none of other; it has conv ort fp32"),
        ({"trained": "384"}, "trained at '192', here '384'"),
        ({"protocol": "delta"}, "measure 'AbsRel', here 'delta'"),
        ({"sizes": ["192", "999"]}, "none of the sizes 192, 999"),
    ],
)
def test_what_was_measured_otherwise_is_refused_before_anything_is_measured(recorded, change, message):
    check_comparable(recorded, **SAME)
    with pytest.raises(IncompatibleError, match=message):
        check_comparable(recorded, **(SAME | change))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "latency"}', '{"kind": "resolution-study"}'])
def test_what_is_no_study_is_refused(text, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match="is not a recorded study"):
        read_recorded(path)


@pytest.mark.parametrize(
    "change", [{"loss_percent": float("nan")}, {"loss_percent_high": float("inf")}, {"loss_percent_low": 1e3}]
)
def test_a_loss_that_is_no_interval_is_refused(change, tmp_path):
    rows = made().rows()
    rows[5] |= change
    with pytest.raises(BadFileError, match=r"vit at 256 loses"):
        read_recorded(written(made(), tmp_path, rows=rows))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(BadFileError, match=r"nowhere\.json"):
        read_recorded(Path("nowhere.json"))


def test_committed_studies_can_be_compared_with():
    results = ROOT / "benchmarks" / "results"
    found = [read_recorded(path) for path in sorted(results.glob("resolution-study-*.json"))]
    assert found
    assert all(each.trained == "192" for each in found)


def test_the_scores_of_a_record_are_those_that_were_written(tmp_path):
    study = made()
    study = replace(study, scores=replace(study.scores, kinds=KINDS))
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
    with pytest.raises(BadFileError, match="is not a recorded study"):
        read_scores(written(made(), tmp_path, **change))
