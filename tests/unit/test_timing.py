"""Interleaved timing, on a clock that the test holds."""

from __future__ import annotations

import numpy as np
import pytest

from dpt_deploy.bench import timing
from dpt_deploy.bench.timing import Contender, Timing, interleave, ratio


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

        return Contender(run, lambda: None)


def test_medians_are_those_of_the_clock(monkeypatch):
    clock = Clock(monkeypatch)
    found = interleave({"slow": clock.work(3.0), "fast": clock.work(1.0)}, seconds=40.0)
    assert (found["slow"].median, found["fast"].median) == (3.0, 1.0)
    assert ratio(found["slow"], found["fast"]) == (3.0, 3.0, 3.0)


def test_turns_are_taken_and_the_order_rotates(monkeypatch):
    clock, log = Clock(monkeypatch), []
    interleave({"a": clock.work(1.0, log, "a"), "b": clock.work(1.0, log, "b")}, seconds=8.0)
    warm_up, rounds = log[: 2 * timing.WARM_UP], log[2 * timing.WARM_UP :]
    assert warm_up == ["a", "a", "b", "b"]
    assert rounds == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_the_time_box_ends_the_run_but_three_rounds_are_kept(monkeypatch):
    clock = Clock(monkeypatch)
    assert len(interleave({"a": clock.work(100.0)}, seconds=1.0)["a"].seconds) == timing.MIN_SAMPLES
    assert len(interleave({"a": clock.work(1.0)}, seconds=1e9, max_samples=7)["a"].seconds) == 7


def test_work_left_in_the_queue_is_counted(monkeypatch):
    clock = Clock(monkeypatch)

    def wait():
        clock.now += 0.5

    found = interleave({"queued": Contender(lambda: None, wait)}, seconds=5.0)
    assert found["queued"].median == 0.5


def test_the_interval_holds_the_median_and_narrows_with_samples():
    rng = np.random.default_rng(0)
    few, many = (Timing(rng.normal(1.0, 0.1, count)) for count in (5, 500))
    low, high = many.interval()
    assert low <= many.median <= high
    assert high - low < few.interval()[1] - few.interval()[0]
    assert many.percentile(90) == pytest.approx(np.percentile(many.seconds, 90))
