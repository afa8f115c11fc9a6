"""The journal of scores: kept as they are made, read back whole, and never more than was written."""

import json

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.study.journal import Journal

pytestmark = pytest.mark.fast

ERRORS = {"abs_rel": 0.125, "delta1": 0.5}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.jsonl"


def written(path, *entries):
    with Journal(path) as journal:
        for key, errors in entries:
            journal.add(*key, errors)
    return Journal(path)


def test_what_was_added_is_there_at_once_and_later(path):
    key = ("model on data", "192", "scene-1")
    with Journal(path) as journal:
        journal.add(*key, ERRORS)
        assert journal.get(*key) == ERRORS
        assert Journal(path).get(*key) == ERRORS  # before it was closed: a killed process loses nothing
    assert Journal(path).ignored == 0


@pytest.mark.parametrize("change", [0, 1, 2])
def test_another_model_size_or_image_is_another_score(path, change):
    key = ["model", "192", "scene-1"]
    journal = written(path, (key, ERRORS))
    key[change] += "x"
    assert journal.get(*key) is None


def test_numbers_survive_to_the_last_bit(path):
    value = 0.1 + 0.2
    assert written(path, (("m", "192", "i"), {"abs_rel": value})).get("m", "192", "i") == {"abs_rel": value}


def test_a_line_that_was_cut_short_is_no_score_and_spoils_no_other(path):
    written(path, (("m", "192", "a"), ERRORS), (("m", "192", "b"), ERRORS))
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip()[:-7])
    journal = Journal(path)
    assert (journal.get("m", "192", "a"), journal.get("m", "192", "b"), journal.ignored) == (ERRORS, None, 1)
    again = written(path, (("m", "192", "b"), ERRORS))
    assert again.get("m", "192", "b") == ERRORS
    assert again.ignored == 1


DAMAGE = {
    "text": b"not json",
    "a list": b"[1, 2]",
    "a number": b"3",
    "no errors": b'{"subject": "m", "size": "192", "image": "a"}',
    "no image": b'{"subject": "m", "size": "192", "errors": {"abs_rel": 0.1}}',
    "errors that are none": b'{"subject": "m", "size": "192", "image": "a", "errors": {}}',
    "a size that is a number": b'{"subject": "m", "size": 192, "image": "a", "errors": {"abs_rel": 0.1}}',
    "NaN": b'{"subject": "m", "size": "192", "image": "a", "errors": {"abs_rel": NaN}}',
    "infinity": b'{"subject": "m", "size": "192", "image": "a", "errors": {"abs_rel": Infinity}}',
    "text for a number": b'{"subject": "m", "size": "192", "image": "a", "errors": {"abs_rel": "0.1"}}',
    "bytes that are no text": b"\xff\xfe{",
    "deep nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("line", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_counted_and_left_out(path, line):
    written(path, (("m", "192", "b"), ERRORS))
    path.write_bytes(line + b"\n" + path.read_bytes())
    journal = Journal(path)
    assert journal.ignored == 1
    assert journal.get("m", "192", "a") is None
    assert journal.get("m", "192", "b") == ERRORS


def test_the_last_word_on_a_score_counts(path):
    later = {"abs_rel": 0.5}
    assert written(path, (("m", "1", "a"), ERRORS), (("m", "1", "a"), later)).get("m", "1", "a") == later


def test_lines_are_json(path):
    written(path, (("m", "192", "a"), ERRORS))
    (line,) = filter(None, path.read_text().splitlines())
    assert json.loads(line) == {"subject": "m", "size": "192", "image": "a", "errors": ERRORS}


def test_a_folder_in_its_place_is_an_error_that_names_it(path):
    path.mkdir()
    with pytest.raises(UsageError, match=str(path)), Journal(path):
        pass


def test_a_link_in_its_place_is_refused_and_what_it_leads_to_stays(path, tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    path.symlink_to("victim")
    with pytest.raises(UsageError, match="is a symbolic link"):
        written(path, (("m", "192", "a"), ERRORS))
    assert (tmp_path / "victim").read_bytes() == b"precious"
