"""Growth of time and of arithmetic with the image, relative to the smallest size measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One candidate at one size. ``operations`` and ``time`` are ratios to its smallest size."""

    candidate: str
    batch: int
    size: str
    operations: float
    time: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "contender": self.candidate,
            "batch": self.batch,
            "size": self.size,
            "operations": self.operations,
            "time": self.time,
        }


def scaling(rows: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Growth for every candidate and batch timed at two sizes or more, smallest first.

    ``rows`` are those of a recorded result (``contender``, ``batch``, ``size``, ``gflop``, ``p50_ms``). If time grows
    faster than operations, larger images use the machine less efficiently.
    """
    series: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        series.setdefault((row["contender"], row["batch"]), []).append(row)
    found = []
    for (candidate, batch), entries in series.items():
        ordered = sorted(entries, key=lambda row: row["gflop"])
        least = ordered[0]
        if len(ordered) > 1:
            found += [
                Step(candidate, batch, row["size"], row["gflop"] / least["gflop"], row["p50_ms"] / least["p50_ms"])
                for row in ordered
            ]
    return found
