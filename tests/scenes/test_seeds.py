"""Ranges of scene numbers: disjoint, in use everywhere, and the same numbers as ever."""

import re
from itertools import combinations

import pytest
from support.paths import ROOT

from dpt_deploy.jobs.common import inputs
from dpt_deploy.jobs.export import accuracy
from dpt_deploy.jobs.train.config import Validation
from dpt_deploy.scenes import seeds

pytestmark = pytest.mark.fast

LARGE_NUMBER = re.compile(r"\b[1-9]\d{0,2}(?:_?\d{3}){2,}\b")
ROOMS_WITH_SCENES = ("jobs/train", "jobs/study", "jobs/export", "jobs/common", "scenes")


def overlaps(purposes):
    """Pairs of purposes whose ranges share a scene number."""
    return [
        (one, other)
        for (one, first), (other, second) in combinations(purposes.items(), 2)
        if max(first.start, second.start) < min(first.stop, second.stop)
    ]


def test_no_two_purposes_share_a_scene():
    assert overlaps(seeds.PURPOSES) == []


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        ({"a": range(10), "b": range(9, 20)}, [("a", "b")]),
        ({"a": range(5, 6), "b": range(10), "c": range(10, 20)}, [("a", "b")]),
        ({"a": range(10), "b": range(10, 20)}, []),
    ],
    ids=["end", "inside", "neighbours"],
)
def test_overlapping_ranges_are_noticed(ranges, found):
    assert overlaps(ranges) == found


def test_every_range_has_a_purpose():
    named = {name: value for name, value in vars(seeds).items() if isinstance(value, range)}
    assert {name.lower().replace("_", " ") for name in named} == set(seeds.PURPOSES)
    assert set(named.values()) == set(seeds.PURPOSES.values())


def test_the_first_scenes_are_those_of_every_recorded_result():
    starts = {name: scenes.start for name, scenes in seeds.PURPOSES.items()}
    assert starts == {
        "training": 0,
        "studies": 1_000_000,
        "validation": 2_000_000,
        "calibration": 4_000_000,
        "accuracy": 4_100_000,
        "accuracy search": 4_150_000,
        "parity": 4_200_000,
    }
    assert Validation().first == 2_000_000


def test_what_is_rendered_by_default_lies_within_its_range():
    assert len(seeds.CALIBRATION) >= seeds.CALIBRATION_SCENES
    assert min(len(seeds.ACCURACY), len(seeds.ACCURACY_SEARCH)) >= accuracy.SCENES
    assert inputs.PARITY.start in seeds.PARITY


def scene_numbers(folder):
    """Numbers of a million and more in the code of a room, by file."""
    return {
        path.name: found
        for path in folder.rglob("*.py")
        if path.name != "seeds.py" and (found := LARGE_NUMBER.findall(path.read_text()))
    }


@pytest.mark.parametrize("room", ROOMS_WITH_SCENES)
def test_no_other_module_names_a_scene_number(room):
    assert scene_numbers(ROOT / "dpt_deploy" / room) == {}


def test_a_scene_number_elsewhere_is_noticed(tmp_path):
    (tmp_path / "worth.py").write_text("FIRST = 4_100_000\n")
    (tmp_path / "fine.py").write_text("SCENES = 24\nLARGEST = 1 << 26\n")
    assert list(scene_numbers(tmp_path)) == ["worth.py"]
