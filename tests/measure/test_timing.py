"""Interleaved timing, on a clock that the test holds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from support.reporting import recording

from dpt_deploy.measure import ceiling, timing
from dpt_deploy.measure.timing import TimedCall, Timing, balanced_orders, interleave, ratio, repeat

pytestmark = pytest.mark.fast


class Clock:
    """A clock that moves only when work is done."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def work(self, seconds, log=None, name=""):
        def run():
            self.now += seconds
            if log is not None:
                log.append(name)

        return TimedCall(run, lambda: None)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_medians_are_those_of_the_clock(clock):
    found = interleave({"slow": clock.work(3.0), "fast": clock.work(1.0)}, seconds=40.0).timings
    assert (found["slow"].median, found["fast"].median) == (3.0, 1.0)
    assert ratio(found["slow"], found["fast"]) == (3.0, 3.0, 3.0)


def test_many_in_a_row_are_reported_one_by_one(clock):
    burst = clock.work(8.0)
    found = interleave(
        {"burst": TimedCall(burst.run, burst.synchronize, times=4), "one": clock.work(1.0)}, seconds=40.0
    )
    assert (found.timings["burst"].median, found.timings["one"].median) == (2.0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_orders_are_balanced_in_places_and_in_predecessors(count):
    orders = balanced_orders(range(count))
    places = Counter((place, key) for order in orders for place, key in enumerate(order))
    pairs = Counter(pair for order in orders for pair in pairwise(order))
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert len(places) == count * count
    assert len(pairs) == count * (count - 1)
    assert len(set(places.values())) == 1
    assert len(set(pairs.values())) <= 1


def test_rotated_orders_are_not_balanced():
    rotated = [[(first + step) % 4 for step in range(4)] for first in range(4)]
    assert len({pair for order in rotated for pair in pairwise(order)}) < 4 * 3


def test_turns_are_taken_and_the_order_rotates(clock):
    log = []
    interleave({"a": clock.work(1.0, log, "a"), "b": clock.work(1.0, log, "b")}, seconds=8.0)
    warm_up, rounds = log[: 2 * timing.WARM_UP], log[2 * timing.WARM_UP :]
    assert warm_up == ["a", "a", "b", "b"]
    assert rounds == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_pause_follows_each_sample_of_the_call_that_asks_for_it(clock, monkeypatch):
    slept = []
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    spinning = TimedCall(clock.work(1.0).run, lambda: None, pause=0.5)
    found = interleave({"spinning": spinning, "other": clock.work(1.0)}, seconds=8.0)
    assert slept == [0.5] * found.rounds
    assert found.timings["spinning"].median == 1.0


LIMITS = {  # time box, most rounds -> rounds had, what ended them, enough?
    "the time box, and three rounds are kept": ((1.0, 200), (timing.MIN_ROUNDS, "time box", False)),
    "the time box, with few rounds": ((290.0, 200), (29, "time box", False)),
    "the time box, with enough": ((300.0, 200), (30, "time box", True)),
    "the rounds": ((1e9, 40), (40, "rounds", True)),
    "few rounds, asked for": ((1e9, 7), (7, "rounds", False)),
}


@pytest.mark.parametrize(("limits", "expected"), LIMITS.values(), ids=LIMITS)
def test_a_run_says_how_many_rounds_it_had_and_what_ended_them(limits, expected, clock):
    seconds, rounds = limits
    found = interleave({"a": clock.work(10.0)}, seconds=seconds, rounds=rounds)
    assert (found.rounds, found.ended_by, found.enough) == expected
    assert len(found.timings["a"].seconds) == found.rounds
    assert found.seconds == 10.0 * found.rounds


@pytest.mark.parametrize(("later", "ended_by"), [(3, "rounds"), (200, "time box")])
def test_two_runs_of_the_same_calls_are_one(later, ended_by, clock):
    first = interleave({"a": clock.work(1.0)}, seconds=1e9, rounds=4)
    both = first.followed_by(interleave({"a": clock.work(2.0)}, seconds=6.0, rounds=later))
    assert both.timings["a"].seconds.tolist() == [1.0] * 4 + [2.0] * 3
    assert (both.rounds, both.seconds, both.ended_by) == (7, 10.0, ended_by)


def test_progress_ends_at_one_and_never_falls(clock):
    with recording() as reporter:
        interleave({"a": clock.work(1.0)}, seconds=8.0, rounds=100)
    (task,) = reporter.tasks
    shares = [share for share, _, _ in task.states]
    assert shares == sorted(shares)
    assert (shares[-1], len(shares), task.unit, task.closed) == (1.0, 8, "share", True)


def test_yardsticks_have_three_samples_and_then_little_of_the_time(clock, monkeypatch):
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0)
    dear = interleave({"a": clock.work(1.0)}, seconds=100.0, yardsticks={"rule": clock.work(50.0)})
    cheap = interleave({"a": clock.work(1.0)}, seconds=100.0, yardsticks={"rule": clock.work(0.01)})
    assert (dear.rounds, dear.seconds) == (100, 100.0)  # what the yardstick took is not counted
    assert len(dear.timings["rule"].seconds) == 3
    assert len(cheap.timings["rule"].seconds) == cheap.rounds


def test_work_left_in_the_queue_is_counted(clock):
    def wait():
        clock.now += 0.5

    found = interleave({"queued": TimedCall(lambda: None, wait)}, seconds=5.0)
    assert found.timings["queued"].median == 0.5


def test_the_interval_holds_the_median_and_narrows_with_samples():
    rng = np.random.default_rng(0)
    few, many = (Timing(rng.normal(1.0, 0.1, count)) for count in (5, 500))
    low, high = many.interval()
    assert low <= many.median <= high
    assert high - low < few.interval()[1] - few.interval()[0]
    assert many.percentile(90) == pytest.approx(np.percentile(many.seconds, 90))


def test_the_ceiling_is_the_fastest_product_and_a_share_is_of_its_median():
    slow, fast = Timing(np.array([4.0, 4.0, 4.0])), Timing(np.array([9.0, 2.0, 2.0]))
    assert ceiling.best({"slow": slow, "fast": fast}) is fast
    twice_as_long = Timing(np.array([4.0, 4.0, 1.0]))
    assert ceiling.share(twice_as_long, ceiling.operations(64), fast, 64) == pytest.approx(0.5)


def test_a_share_above_the_ceiling_is_none():
    """What is faster than the ceiling shows that it is none."""
    product = Timing(np.array([2.0, 2.0, 2.0]))
    assert ceiling.share(product, ceiling.operations(64), product, 64) == 1
    assert ceiling.share(product, ceiling.operations(64) + 1, product, 64) is None


def test_a_call_alone_is_warmed_up_and_repeated(clock):
    log = []
    found = repeat(clock.work(3.0, log, "product"), rounds=4)
    assert found.seconds.tolist() == [3.0] * 4
    assert len(log) == 4 + timing.WARM_UP


def test_numpy_multiplies_what_the_ceiling_counts(monkeypatch):
    monkeypatch.setattr(ceiling, "SIDE", 8)
    left, right = ceiling.matrices()
    np.testing.assert_allclose(ceiling.numpy_product().run(), left @ right)
