"""How long does it take, honestly: contenders interleaved in one run, medians with bootstrap intervals.

On a shared machine absolute times drift; the ratio of two contenders measured turn by turn does not. The clock is read
after ``synchronize``, never before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

MIN_SAMPLES = 3
WARM_UP = 2


@dataclass(frozen=True)
class Contender:
    """Something to time: a call without arguments, and the wait after it."""

    run: Callable[[], object]
    synchronize: Callable[[], None]


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
    max_samples: int = 200,
    progress: Callable[[float], None] = lambda _share: None,
) -> dict[str, Timing]:
    """Time every contender turn by turn until ``seconds`` are used up, at least three rounds after two of warm-up.

    The order within a round rotates, so that none always follows the same other.
    """
    for contender in contenders.values():
        for _ in range(WARM_UP):
            _measure(contender)
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    rounds = 0
    while rounds < MIN_SAMPLES or (time.perf_counter() - begin < seconds and rounds < max_samples):
        for offset in range(len(names)):
            name = names[(rounds + offset) % len(names)]
            samples[name].append(_measure(contenders[name]))
        rounds += 1
        progress(min(1.0, (time.perf_counter() - begin) / seconds))
    return {name: Timing(np.asarray(values)) for name, values in samples.items()}


def _measure(contender: Contender) -> float:
    contender.synchronize()
    begin = time.perf_counter()
    contender.run()
    contender.synchronize()
    return time.perf_counter() - begin
