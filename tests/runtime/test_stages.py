"""Items worked on by several threads: order, errors, that they overlap, and that few are held."""

import threading
import time

import pytest

from dpt_deploy.core.errors import BadFileError, ParityError, ResourceError
from dpt_deploy.runtime.stages import in_parallel

pytestmark = pytest.mark.fast

PATIENCE = 30  # seconds; only work that does not overlap waits so long


def same(value):
    return value


def results(futures):
    """Values, or the names of the errors."""
    found = []
    for future in futures:
        error = future.exception()
        found.append(type(error).__name__ if error else future.result())
    return found


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_results_have_the_order_of_the_items(count, workers):
    def slow_if_even(item):
        time.sleep(0.01 * (item % 2 == 0))
        return f"<{item}>"

    assert results(in_parallel(range(count), slow_if_even, workers=workers)) == [f"<{item}>" for item in range(count)]


@pytest.mark.parametrize("error", [BadFileError, ParityError, ResourceError])
def test_an_error_is_that_of_its_item_and_the_others_go_on(error):
    def work(item):
        if item == 2:
            raise error("no")
        return item

    assert results(in_parallel(range(5), work, workers=2)) == [0, 1, error.__name__, 3, 4]


def test_an_error_of_the_sequence_is_its_last_item():
    def items():
        yield from range(2)
        raise BadFileError("no more")

    assert results(in_parallel(items(), same, workers=2)) == [0, 1, "BadFileError"]


@pytest.mark.parametrize("where", ["work", "items"])
def test_a_defect_is_not_hidden(where):
    def failing(item):
        if item == 1:
            raise ZeroDivisionError
        return item

    items, work = (map(failing, range(3)), same) if where == "items" else (range(3), failing)
    with pytest.raises(ZeroDivisionError):
        _ = [future.result() for future in in_parallel(items, work, workers=2)]


def test_as_many_items_as_workers_are_worked_on_at_once():
    together = threading.Barrier(3)

    def work(_):
        return together.wait(PATIENCE) >= 0

    assert results(in_parallel(range(6), work, workers=3)) == [True] * 6


def test_items_are_taken_by_one_thread_while_others_are_worked_on():
    takers, later = set(), threading.Event()

    def items():
        for item in range(4):
            takers.add(threading.current_thread())
            if item == 1:
                later.set()
            yield item

    def work(item):
        return threading.current_thread() not in takers and (item != 0 or later.wait(PATIENCE))

    assert results(in_parallel(items(), work, workers=1)) == [True] * 4
    assert len(takers) == 1


def test_few_items_are_held_however_slow_the_caller_is():
    taken, held = [], []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for done, future in enumerate(in_parallel(items(), same, workers=3)):
        future.result()
        time.sleep(0.002)
        held.append(len(taken) - done)
    assert 2 <= max(held) <= 5


def test_a_caller_that_stops_leaves_nothing_running():
    written, before = [], set(threading.enumerate())
    futures = in_parallel(iter(range(100)), written.append, workers=2)
    next(futures)
    futures.close()
    assert len(written) <= 5
    assert set(threading.enumerate()) <= before
