"""Overlapping: the order of begin and end, errors in their turn, and nothing left begun."""

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.runtime.overlap import overlapped

pytestmark = pytest.mark.fast


@pytest.fixture
def log():
    return []


@pytest.fixture
def run(log):
    """Results of ``items``; of a negative number begin fails, of 7 end does; 100 and more have to be alone."""

    def begin(item, wait):
        if item >= 100 and not wait:
            return None
        if item < 0:
            raise UsageError(f"begin {item}")
        log.append(f"begin {item}")
        return item

    def end(item):
        log.append(f"end {item}")
        if item == 7:
            raise UsageError("end 7")
        return 10 * item

    return lambda items: overlapped(items, begin, end)


def test_the_next_is_begun_before_one_is_ended(run, log):
    assert list(run([1, 2, 3])) == [10, 20, 30]
    assert log == ["begin 1", "begin 2", "end 1", "begin 3", "end 2", "end 3"]


def test_what_finds_no_room_is_begun_when_the_others_have_ended(run, log):
    assert list(run([1, 100, 101, 2])) == [10, 1000, 1010, 20]
    assert log == ["begin 1", "end 1", "begin 100", "end 100", "begin 101", "begin 2", "end 101", "end 2"]


def test_what_fails_at_its_end_is_reported_in_its_turn(run):
    found = run([1, 7, 2, 3])
    assert next(found) == 10
    with pytest.raises(UsageError, match="end 7"):
        next(found)


@pytest.mark.parametrize("items", [[], [1]])
def test_few_are_enough(run, items):
    assert list(run(items)) == [10 * item for item in items]


def test_what_cannot_begin_is_reported_after_what_was_begun(run, log):
    found = run([1, 2, -1, 3])
    assert [next(found), next(found)] == [10, 20]
    with pytest.raises(UsageError, match="begin -1"):
        next(found)
    assert "begin 3" not in log


def test_what_fails_at_its_end_leaves_nothing_begun(run, log):
    found = run([7, 2, 3])
    with pytest.raises(UsageError, match="end 7"):
        next(found)
    assert log == ["begin 7", "begin 2", "end 7", "end 2"]
    assert list(found) == []


def test_who_stops_asking_leaves_nothing_begun(run, log):
    found = run([1, 2, 3])
    next(found)
    found.close()
    assert log == ["begin 1", "begin 2", "end 1", "end 2"]
