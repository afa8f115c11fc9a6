"""Searches: the first tensor at which two computations diverge, and the smallest set that makes them agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpt_deploy.core.recipe import Tolerance
from dpt_deploy.measure import metrics

Probe = Callable[[Sequence[str]], Mapping[str, tuple[np.ndarray, np.ndarray]]]  # names -> candidate, reference


@dataclass(frozen=True)
class Divergence:
    """The first tensor that is wrong, by how much, and the last one before it that was right."""

    tensor: str
    max: float
    mean: float
    last_good: str | None


def first_divergence(names: Sequence[str], probe: Probe, tolerance: Tolerance, *, chunk: int = 16) -> Divergence | None:
    """Scan ``names`` in execution order, ``chunk`` tensors a run, and return the first that exceeds ``tolerance``.

    A scan, not a binary search: an error can cancel further down, and a wrong answer here costs hours. ``chunk`` bounds
    the memory held at a time. Tensors that are constant in the reference are skipped: they have no range.
    """
    last_good: str | None = None
    for start in range(0, len(names), chunk):
        measured = probe(names[start : start + chunk])
        for name in names[start : start + chunk]:
            candidate, reference = measured[name]
            if candidate.shape != reference.shape:
                return Divergence(name, float("inf"), float("inf"), last_good)
            if metrics.span(reference) == 0.0:
                continue
            largest, mean = metrics.range_error(candidate, reference)
            if largest > tolerance.max or mean > tolerance.mean:
                return Divergence(name, largest, mean, last_good)
            last_good = name
    return None


def smallest_set(items: Sequence[str], holds: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """A subset of ``items`` that ``holds``, of which no member can be left out; None where not even all of them do.

    Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002, §3): chunks are
    tried alone, then left out, ever finer. A single culprit among n is found in about ``2 log2(n)`` trials. Several
    minimal sets may exist; this is one of them.
    """
    if holds(frozenset()):
        return frozenset()
    kept = list(items)
    if not holds(frozenset(kept)):
        return None
    parts = 2
    while len(kept) > 1:
        chunks = [kept[len(kept) * index // parts : len(kept) * (index + 1) // parts] for index in range(parts)]
        alone = next((chunk for chunk in chunks if holds(frozenset(chunk))), None)
        if alone is not None:
            kept, parts = alone, 2
            continue
        rest = ([item for item in kept if item not in set(chunk)] for chunk in chunks) if parts > 2 else iter(())
        without = next((others for others in rest if holds(frozenset(others))), None)
        if without is not None:
            kept, parts = without, max(parts - 1, 2)
        elif parts < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    return frozenset(kept)
