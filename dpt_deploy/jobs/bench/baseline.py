"""Is this run worse than a recorded one? Ratios are compared, never times: only ratios hold on a busy machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.common.recorded import read_record, require_same

_MACHINE = ("processor", "cores", "gpus")
SLOWER = "times_slower_than_"  # begins the key of a ratio in a row; the name of what is ours ends it
_MAX_BYTES = 1 << 24  # a recorded run has a few kilobytes
Key = tuple[str, int, str]
Ratio = tuple[float, float, float]


@dataclass(frozen=True)
class Regression:
    """A contender that gained on ours: its lead was ``recorded`` times, is now at most ``high``."""

    size: str
    batch: int
    contender: str
    recorded: float
    found: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.contender} at {self.size}, batch {self.batch}: {self.found:.2f} times slower than ours, "
            f"recorded {self.recorded:.2f}"
        )


@dataclass(frozen=True)
class Baseline:
    """A recorded run: where it was read from, of which model, on which machine, and its ratios by row."""

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
    """Raise :class:`IncompatibleError`, which names every difference, if it was recorded on another kind of machine."""
    require_same(
        f"the baseline {baseline.source}",
        [(key, baseline.machine[key], environment[key]) for key in _MACHINE],
        hint="record a baseline on this machine",
    )


def comparable(baseline: Baseline, model: str, planned: Iterable[Key]) -> tuple[list[Key], list[Key]]:
    """The rows of the baseline that a run of ``model`` over ``planned`` will be held to, and those it will not.

    Raises:
        IncompatibleError: it was recorded for another model.
        BadFileError: no row is in common.
    """
    require_same(
        f"the baseline {baseline.source}", [("model", baseline.model, model)], hint="record a baseline of this model"
    )
    common = sorted(baseline.ratios.keys() & set(planned))
    if not common:
        recorded = "; ".join(map(describe, sorted(baseline.ratios))) or "nothing beside ours"
        raise BadFileError(
            f"baseline {baseline.source} has no row in common with this run; it has {recorded}",
            hint="give the sizes, batches and runtimes it has, ort among them",
        )
    return common, sorted(baseline.ratios.keys() - set(common))


def describe(key: Key) -> str:
    """A row in words."""
    size, batch, contender = key
    return f"{contender} at {size}, batch {batch}"


def regressions(rows: Iterable[Mapping[str, Any]], baseline: Baseline) -> list[Regression]:
    """Ratios of ``rows`` that fell below the recorded one by more than the interval of either run."""
    found = []
    for key, now in sorted(_ratios(rows).items()):
        then = baseline.ratios.get(key)
        if then and now[2] < then[1]:  # the upper end of this interval lies under the lower end of the recorded one
            found.append(Regression(*key, then[0], now[0], now[2]))
    return found


def _ratios(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Ratio]:
    """Rows that have a ratio to ours; raises one of Python's own errors for what is no such row."""
    return {
        (str(row["size"]), int(row["batch"]), str(row["contender"])): _ratio(found)
        for row in rows
        if (found := slower(row))
    }


def slower(row: Mapping[str, Any]) -> Any:
    """How many times slower than ours a row is, whichever of the runtimes was ours; None for ours itself."""
    return next((value for key, value in row.items() if key.startswith(SLOWER) and value), None)


def _ratio(values: Iterable[Any]) -> Ratio:
    middle, low, high = (float(value) for value in values)
    if not 0 < low <= middle <= high < math.inf:
        raise ValueError(f"{[middle, low, high]} is not a ratio within its interval")
    return middle, low, high
