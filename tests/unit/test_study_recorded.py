"""A study beside a recorded one: what meets, what does not, and what cannot be compared."""

import json
from pathlib import Path

import pytest
from support.study import GROWTH, made

from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError
from dpt_deploy.study.recorded import agreement, check_comparable, read_recorded

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
    assert str(met) == f"12 of 12 intervals meet those of {recorded.source}"
    met.require()


def test_a_curve_that_has_moved_is_named_with_both_intervals(recorded):
    met = agreement(made(STEEPER), recorded)
    assert [(each.subject, each.size) for each in met.apart] == [("vit", "512")]
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


def test_models_that_were_not_recorded_cannot_be_compared(recorded):
    with pytest.raises(IncompatibleError, match="none of these models"):
        agreement(made({"other": GROWTH["conv"]}), recorded)


SAME = {"trained": "192", "protocol": "AbsRel", "sizes": ["192", "256"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
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
    with pytest.raises(BadFileError, match="is no recorded study"):
        read_recorded(path)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(BadFileError, match=r"nowhere\.json"):
        read_recorded(Path("nowhere.json"))


def test_committed_studies_can_be_compared_with():
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    found = [read_recorded(path) for path in sorted(results.glob("resolution-study-*.json"))]
    assert found
    assert all(each.trained == "192" for each in found)
