"""Three stages at once: order, errors, and that they overlap and hold few items."""

import threading

import pytest

from dpt_deploy.core.errors import BadFileError, ParityError, ResourceError
from dpt_deploy.runtime.stages import staged

pytestmark = pytest.mark.fast

PATIENCE = 30  # seconds; only a stage that does not overlap waits so long


def same(value):
    return value


def results(futures):
    """Values, or the names of the errors."""
    found = []
    for future in futures:
        error = future.exception()
        found.append(type(error).__name__ if error else future.result())
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_item_passes_all_stages_in_order(count):
    futures = staged(range(count), lambda item: item + 1, lambda value: value * 10, lambda value: f"<{value}>")
    assert results(futures) == [f"<{10 * (item + 1)}>" for item in range(count)]


def failing(at, error):
    def stage(item):
        if item == at:
            raise error("no")
        return item

    return stage


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_error_is_that_of_its_item_and_the_others_go_on(stage):
    error = (BadFileError, ParityError, ResourceError)[stage]
    stages = [same, same, same]
    stages[stage] = failing(2, error)
    assert results(staged(range(5), *stages)) == [0, 1, error.__name__, 3, 4]


def test_an_error_of_the_sequence_is_its_last_item():
    def items():
        yield from range(2)
        raise BadFileError("no more")

    assert results(staged(items(), same, same, same)) == [0, 1, "BadFileError"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_defect_is_not_hidden(stage):
    stages = [same, same, same]
    stages[stage] = failing(1, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        _ = [future.result() for future in staged(range(3), *stages)]


def test_the_stages_overlap():
    read, computed = threading.Event(), threading.Event()

    def first(item):
        if item == 1:
            read.set()
        return item

    def second(item):
        if item == 0:
            assert read.wait(PATIENCE)  # the next is read while this one is computed
        if item == 1:
            computed.set()
        return item

    def third(item):
        if item == 0:
            assert computed.wait(PATIENCE)  # and computed while this one is written
        return item

    assert results(staged(range(2), first, second, third)) == [0, 1]


def test_the_network_stays_in_the_thread_of_the_caller():
    threads = results(staged(range(3), same, lambda _: threading.current_thread(), same))
    assert set(threads) == {threading.current_thread()}


def test_few_items_are_held_however_slow_the_caller_is():
    taken, held = [], []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for done, future in enumerate(staged(items(), same, same, same)):
        future.result()
        held.append(len(taken) - done)
    assert max(held) <= 4


def test_a_caller_that_stops_leaves_nothing_running():
    written, before = [], set(threading.enumerate())
    futures = staged(iter(range(100)), same, same, written.append)
    next(futures)
    futures.close()
    assert len(written) <= 3
    assert set(threading.enumerate()) <= before
