"""How long does it take, honestly: contenders interleaved in one run, medians with bootstrap intervals.

On a shared machine absolute times drift; the ratio of two contenders measured turn by turn does not. The clock is the
host's, read after ``synchronize`` on both sides of a run: for work on a GPU that includes the launch and the copies,
which is what a caller waits for. Events on the device would leave them out, so they are not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dpt_deploy.core.progress import progress

MIN_ROUNDS = 3  # without which there is no median to speak of, whatever the time box says
ENOUGH_ROUNDS = 30  # a run with fewer says so
MAX_ROUNDS = 200
WARM_UP = 2
YARDSTICK_SHARE = 0.1  # of the contenders' time, once each yardstick has its three samples
SETTLE_SECONDS = 0.05  # threads of a linear-algebra library spin for some 25 ms after a product

Limit = Literal["time box", "rounds"]
Clock = Callable[[], float]


def now() -> float:
    """Seconds of the host's finest clock."""
    return time.perf_counter()


@dataclass(frozen=True)
class Contender:
    """Something to time: a call without arguments, and the wait after it. ``note`` says what turned out to run it.

    ``times`` is how often one call does what is timed, where only many in a row can overlap; a sample is a call's time
    over it. ``parts`` are what a call consists of, in order, each to be timed by itself as well.
    """

    run: Callable[[], object]
    synchronize: Callable[[], None]
    note: str = ""
    times: int = 1
    parts: Mapping[str, Callable[[], object]] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds of every run of one contender, in the order they were measured."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.seconds, q))

    def interval(self, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
        """95 % bootstrap interval of the median."""
        return _interval(self.seconds, seed, resamples)


@dataclass(frozen=True)
class Session:
    """What one interleaved run measured: a timing by name, and which limit ended it after how many rounds.

    Contenders have a sample of every round, yardsticks of some. ``seconds`` is what the rounds took, without warm-up
    and yardsticks.
    """

    timings: Mapping[str, Timing]
    rounds: int
    seconds: float
    ended_by: Limit

    @property
    def enough(self) -> bool:
        return self.rounds >= ENOUGH_ROUNDS


def ratio(slow: Timing, fast: Timing, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float, float]:
    """Median of the turn-by-turn ratio ``slow / fast`` and its 95 % bootstrap interval."""
    rounds = slow.seconds / fast.seconds
    low, high = _interval(rounds, seed, resamples)
    return float(np.median(rounds)), low, high


def _interval(values: np.ndarray, seed: int, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(values, (resamples, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def interleave(
    contenders: Mapping[str, Contender],
    *,
    seconds: float,
    rounds: int = MAX_ROUNDS,
    yardsticks: Mapping[str, Contender] | None = None,
    clock: Clock = now,
) -> Session:
    """Time every contender turn by turn until ``seconds`` are used up or ``rounds`` are had, whichever is first.

    Two rounds of warm-up come before, and three rounds are kept even where the time box is too small for them. The
    order within a round rotates, so that none always follows the same other. ``yardsticks`` come after the first three
    rounds, and then after as many as cost a tenth of the contenders' time; their own is not counted.
    """
    yardsticks = yardsticks or {}
    everyone = {**contenders, **yardsticks}
    for contender in everyone.values():
        for _ in range(WARM_UP):
            measure(contender, clock)
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in everyone}
    done, used, lent = 0, 0.0, 0.0
    with progress("timing", 1.0, unit="share") as share:
        while done < MIN_ROUNDS or (used < seconds and done < rounds):
            begin = clock()
            for offset in range(len(names)):
                name = names[(done + offset) % len(names)]
                samples[name].append(measure(contenders[name], clock))
            done += 1
            used += clock() - begin
            if yardsticks and (done <= MIN_ROUNDS or lent < YARDSTICK_SHARE * used):
                for name, yardstick in yardsticks.items():
                    samples[name].append(measure(yardstick, clock))
                    lent += samples[name][-1]
                time.sleep(SETTLE_SECONDS)
            share.update(done=min(1.0, max(used / seconds, done / rounds)))
    timings = {name: Timing(np.asarray(values)) for name, values in samples.items()}
    return Session(timings, done, used, "rounds" if done >= rounds else "time box")


def measure(contender: Contender, clock: Clock = now) -> float:
    """Seconds of one run and the wait after it; what went before is waited for first."""
    contender.synchronize()
    begin = clock()
    contender.run()
    contender.synchronize()
    return (clock() - begin) / contender.times


def alternate(contender: Contender, other: Contender, *, rounds: int, clock: Clock = now) -> Timing:
    """``rounds`` runs of ``contender``, each right after one of ``other``, without warm-up."""
    samples = []
    for _ in range(rounds):
        measure(other, clock)
        samples.append(measure(contender, clock))
    return Timing(np.asarray(samples))
