"""Timing: calls interleaved in one run, medians with bootstrap intervals.

On a shared machine absolute times drift; the ratio of two interleaved calls does not. The clock is the host's, read
after ``synchronize`` on both sides of a run: for work on a GPU that includes the launch and the copies, which is what a
caller waits for. Events on the device would leave them out, so they are not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np

from dpt_deploy.core.progress import progress

MIN_ROUNDS = 3  # fewer have no meaningful median; run even if the time limit is shorter
ENOUGH_ROUNDS = 30  # results with fewer rounds are marked
MAX_ROUNDS = 200
RESAMPLES = 2000  # of a bootstrap interval
WARM_UP = 2
YARDSTICK_SHARE = 0.1  # of the time of the calls, once each yardstick has its three samples
SETTLE_SECONDS = 0.05  # threads of a linear-algebra library spin for some 25 ms after a product

Limit = Literal["time box", "rounds"]
Clock = Callable[[], float]
Key = TypeVar("Key", bound=Hashable)


def now() -> float:
    """Return the seconds of the host's finest clock."""
    return time.perf_counter()


@dataclass(frozen=True)
class TimedCall:
    """A call to time, and the wait after it.

    Attributes:
        run: the call.
        synchronize: waits until the work of the call is done.
        note: the library parts that turned out to run it.
        times: number of runs in one call, if only runs in a row can overlap; a sample is the time of a call over it.
        parts: the steps that a call consists of, in order; each can be timed by itself.
        settings: options of its library that the time depends on.
        pause: seconds to wait after a sample, until the threads of its library have stopped spinning, which would slow
            the next call.
    """

    run: Callable[[], object]
    synchronize: Callable[[], None]
    note: str = ""
    times: int = 1
    parts: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds of every run of one call, in the order they were measured."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.seconds, q))

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the median."""
        return _interval(self.seconds)


@dataclass(frozen=True)
class Session(Generic[Key]):
    """Result of one interleaved run: a timing per key, the number of rounds, and the limit that ended it.

    Calls have one sample per round, yardsticks fewer. ``seconds`` is the time of the rounds, without warm-up and
    yardsticks.
    """

    timings: Mapping[Key, Timing]
    rounds: int
    seconds: float
    ended_by: Limit

    @property
    def enough(self) -> bool:
        return self.rounds >= ENOUGH_ROUNDS

    def followed_by(self, later: Session[Key]) -> Session[Key]:
        """Return this run and a ``later`` one of the same calls as one: ended by rounds only if both were."""
        timings = {
            key: Timing(np.concatenate([timing.seconds, later.timings[key].seconds]))
            for key, timing in self.timings.items()
        }
        ended_by: Limit = "rounds" if self.ended_by == later.ended_by == "rounds" else "time box"
        return Session(timings, self.rounds + later.rounds, self.seconds + later.seconds, ended_by)


def ratio(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """Return the median of the round-by-round ratio ``slow / fast`` and its 95 % bootstrap interval."""
    rounds = slow.seconds / fast.seconds
    low, high = _interval(rounds)
    return float(np.median(rounds)), low, high


def _interval(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def interleave(
    calls: Mapping[Key, TimedCall],
    *,
    seconds: float,
    rounds: int = MAX_ROUNDS,
    yardsticks: Mapping[Key, TimedCall] | None = None,
    clock: Clock = now,
) -> Session[Key]:
    """Time all calls, interleaved, until ``seconds`` are used up or ``rounds`` are done, whichever is first.

    Two rounds of warm-up come first. At least three rounds are timed, even if the time limit is shorter. The order
    changes from round to round (:func:`balanced_orders`), because a call leaves caches and clocks to the next one.
    ``yardsticks`` run after the first three
    rounds, and then after so many that they cost a tenth of the time of the calls; their own time is not counted.
    """
    yardsticks = yardsticks or {}
    everything = {**calls, **yardsticks}
    for call in everything.values():
        for _ in range(WARM_UP):
            measure(call, clock)
    orders = balanced_orders(list(calls))
    samples: dict[Key, list[float]] = {key: [] for key in everything}
    done, used, lent = 0, 0.0, 0.0
    with progress("timing", 1.0, unit="share") as share:
        while done < MIN_ROUNDS or (used < seconds and done < rounds):
            begin = clock()
            for key in orders[done % len(orders)]:
                samples[key].append(measure(calls[key], clock))
                if calls[key].pause:
                    time.sleep(calls[key].pause)
            done += 1
            used += clock() - begin
            if yardsticks and (done <= MIN_ROUNDS or lent < YARDSTICK_SHARE * used):
                for key, yardstick in yardsticks.items():
                    samples[key].append(measure(yardstick, clock))
                    lent += samples[key][-1]
                time.sleep(SETTLE_SECONDS)
            share.update(done=min(1.0, max(used / seconds, done / rounds)))
    timings = {key: Timing(np.asarray(values)) for key, values in samples.items()}
    return Session(timings, done, used, "rounds" if done >= rounds else "time box")


def balanced_orders(keys: Sequence[Key]) -> list[list[Key]]:
    """Orders in which each key stands equally often at each place, and equally often right behind each other key.

    There are as many orders as keys; twice as many for an odd number. Source: Williams 1949, "Experimental designs
    balanced for the estimation of residual effects of treatments".
    """
    count = len(keys)
    zigzag = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(count)]  # 0, 1, -1, 2, -2, …
    orders = [[keys[(first + step) % count] for step in zigzag] for first in range(count)]
    return orders + [order[::-1] for order in orders] if count % 2 else orders


def measure(call: TimedCall, clock: Clock = now) -> float:
    """Return the seconds of one run and the wait after it; earlier work is waited for first."""
    call.synchronize()
    begin = clock()
    call.run()
    call.synchronize()
    return (clock() - begin) / call.times


def repeat(call: TimedCall, *, rounds: int, clock: Clock = now) -> Timing:
    """Time ``rounds`` runs of ``call`` in a row, after the warm-up: what it takes while nothing else runs."""
    for _ in range(WARM_UP):
        measure(call, clock)
    return Timing(np.asarray([measure(call, clock) for _ in range(rounds)]))


def alternate(call: TimedCall, other: TimedCall, *, rounds: int, clock: Clock = now) -> Timing:
    """Time ``rounds`` runs of ``call``, each right after one of ``other``, without warm-up."""
    samples = []
    for _ in range(rounds):
        measure(other, clock)
        samples.append(measure(call, clock))
    return Timing(np.asarray(samples))
