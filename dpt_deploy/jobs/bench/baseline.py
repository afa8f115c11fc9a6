"""Comparison of a run with a recorded one. Only ratios are compared: times do not hold on a busy machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.common.recorded import read_record, require_same

_MACHINE = ("processor", "cores", "gpus")
SLOWER = "times_slower_than_"  # prefix of the key of a ratio in a row; the name of the reference follows
_MAX_BYTES = 1 << 24  # a recorded run has a few kilobytes
Key = tuple[str, int, str]
Ratio = tuple[float, float, float]


@dataclass(frozen=True)
class Regression:
    """A candidate whose ratio to the artefact got worse: it was ``recorded`` and is now at most ``high``."""

    size: str
    batch: int
    candidate: str
    recorded: float
    found: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.candidate} at {self.size}, batch {self.batch}: {self.found:.2f} times slower than the artefact, "
            f"recorded {self.recorded:.2f}"
        )


@dataclass(frozen=True)
class Baseline:
    """A recorded run: its file, model and machine, and its ratios by row."""

    source: Path
    model: str
    machine: Mapping[str, Any]
    ratios: Mapping[Key, Ratio]


def read_baseline(path: Path) -> Baseline:
    """Read a result of ``dpt-deploy bench --out`` or ``--json``; raises :class:`BadFileError` for any other file."""

    def parse(data: Any) -> Baseline:
        machine = {key: data["environment"][key] for key in _MACHINE}
        return Baseline(path, str(data["model"]), machine, _ratios(data["rows"]))

    return read_record(
        path,
        parse,
        what="a recorded benchmark",
        hint="record one with `dpt-deploy bench --out FOLDER`",
        max_bytes=_MAX_BYTES,
    )


def check_machine(baseline: Baseline, environment: Mapping[str, Any]) -> None:
    """Raise :class:`IncompatibleError` with every difference if it was recorded on another kind of machine."""
    require_same(
        f"the baseline {baseline.source}",
        [(key, baseline.machine[key], environment[key]) for key in _MACHINE],
        hint="record a baseline on this machine",
    )


def comparable(baseline: Baseline, model: str, requested: Iterable[Key]) -> tuple[list[Key], list[Key]]:
    """Return the rows of the baseline that a run of ``model`` over ``requested`` is compared with, and the others.

    Raises:
        IncompatibleError: it was recorded for another model.
        BadFileError: no row is in common.
    """
    require_same(
        f"the baseline {baseline.source}", [("model", baseline.model, model)], hint="record a baseline of this model"
    )
    common = sorted(baseline.ratios.keys() & set(requested))
    if not common:
        recorded = "; ".join(map(describe, sorted(baseline.ratios))) or "no ratio"
        raise BadFileError(
            f"baseline {baseline.source} has no row in common with this run; it has {recorded}",
            hint="use sizes, batches and runtimes that it has, including ort",
        )
    return common, sorted(baseline.ratios.keys() - set(common))


def describe(key: Key) -> str:
    """Return the name of a row for messages."""
    size, batch, candidate = key
    return f"{candidate} at {size}, batch {batch}"


def regressions(rows: Iterable[Mapping[str, Any]], baseline: Baseline) -> list[Regression]:
    """Return the ratios of ``rows`` that are lower than recorded, with intervals that do not overlap."""
    found = []
    for key, now in sorted(_ratios(rows).items()):
        then = baseline.ratios.get(key)
        if then and now[2] < then[1]:  # this interval ends below the recorded one
            found.append(Regression(*key, then[0], now[0], now[2]))
    return found


def _ratios(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Ratio]:
    """Return the ratios of the rows that have one; raises a built-in exception for malformed rows."""
    return {
        (str(row["size"]), int(row["batch"]), str(row["contender"])): _ratio(found)
        for row in rows
        if (found := slower(row))
    }


def slower(row: Mapping[str, Any]) -> Any:
    """Return the ratio of a row to its reference; None for the reference itself."""
    return next((value for key, value in row.items() if key.startswith(SLOWER) and value), None)


def _ratio(values: Iterable[Any]) -> Ratio:
    middle, low, high = (float(value) for value in values)
    if not 0 < low <= middle <= high < math.inf:
        raise ValueError(f"{[middle, low, high]} is not a ratio within its interval")
    return middle, low, high
