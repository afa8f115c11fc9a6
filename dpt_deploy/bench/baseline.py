"""Is this run worse than a recorded one? Ratios are compared, never times: only ratios hold on a busy machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError, IncompatibleError

_MACHINE = ("processor", "cores", "gpus")
Key = tuple[str, int, str]


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
    """A recorded run and where it was read from."""

    source: Path
    data: Mapping[str, Any]


def regressions(result: Mapping[str, Any], baseline: Baseline) -> list[Regression]:
    """Ratios that fell below the recorded one by more than the interval of either run.

    Raises:
        BadFileError: the baseline shares no row with the result.
        IncompatibleError: it was recorded on another kind of machine or for another model.
    """
    _check_machine(result, baseline)
    ours, theirs = _ratios(result), _ratios(baseline.data)
    common = ours.keys() & theirs.keys()
    if not common:
        raise BadFileError(
            f"{baseline.source} has no row in common with this run", hint="give the sizes and runtimes it has"
        )
    found = []
    for size, batch, contender in sorted(common):
        now, then = ours[size, batch, contender], theirs[size, batch, contender]
        if now[2] < then[1]:  # the upper end of this interval lies under the lower end of the recorded one
            found.append(Regression(size, batch, contender, then[0], now[0], now[2]))
    return found


def read_baseline(path: Path) -> Baseline:
    """A run recorded by ``dpt-deploy bench --json``; raises :class:`BadFileError` for anything else."""
    try:
        data: Mapping[str, Any] = json.loads(path.read_text())
        _ratios(data), data["environment"]["processor"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise BadFileError(
            f"baseline {path} cannot be read ({exc!r})", hint="record one with `dpt-deploy bench --json`"
        ) from exc
    return Baseline(path, data)


def _check_machine(result: Mapping[str, Any], baseline: Baseline) -> None:
    recorded = baseline.data
    pairs = [(key, result["environment"][key], recorded["environment"].get(key)) for key in _MACHINE]
    pairs.append(("model", result["model"], recorded.get("model")))
    different = [f"{key} {then!r}, here {now!r}" for key, now, then in pairs if now != then]
    if different:
        raise IncompatibleError(
            f"baseline {baseline.source} was recorded elsewhere: {'; '.join(different)}",
            hint="record a baseline on this machine",
        )


def _ratios(data: Mapping[str, Any]) -> dict[Key, tuple[float, float, float]]:
    return {
        (row["size"], row["batch"], row["contender"]): tuple(row["times_slower_than_ort"])
        for row in data["rows"]
        if row.get("times_slower_than_ort")
    }
