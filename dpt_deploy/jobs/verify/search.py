"""Searches for the nodes or blocks to keep: the smallest set, or the shortest prefix of a ranking, that suffices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache


def shortest_prefix(items: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> int:
    """Find the smallest ``count`` for which ``items[:count]`` ``holds``, by bisection.

    All of ``items`` together must hold. A prefix that is longer than one that holds is assumed to hold, too. If that is
    not so, the prefix found still holds, but a shorter one may hold as well.
    """
    low, high = -1, len(items)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(items[:middle]) else (middle, high)
    return high


def smallest_set(items: Sequence[str], holds: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """Find a subset of ``items`` that ``holds`` and of which no member can be left out.

    Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002, §3): chunks are
    tried alone, then left out, ever finer. A single culprit among n is found in about ``2 log2(n)`` trials. Several
    minimal sets may exist; this is one of them. No set is tried twice: a trial may take seconds.

    Returns:
        The set; None if not even all ``items`` together hold.
    """
    holds = cache(holds)
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
