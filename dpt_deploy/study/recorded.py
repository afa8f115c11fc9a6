"""Do two studies of the same models agree? Curves measured on other images may differ by chance, and by no more."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError
from dpt_deploy.study.findings import interval
from dpt_deploy.study.outcome import KIND, Study
from dpt_deploy.study.resolution import Estimate

_MAX_BYTES = 1 << 26  # a record of a thousand images has a megabyte
Point = tuple[str, str]  # subject and size


@dataclass(frozen=True)
class Recorded:
    """A study that was written before: how it measured, and its loss in percent by subject and size."""

    source: Path
    trained: str
    protocol: str
    losses: Mapping[Point, Estimate]


@dataclass(frozen=True)
class Apart:
    """A loss in percent whose 95 % interval does not meet the recorded one."""

    subject: str
    size: str
    found: Estimate
    recorded: Estimate

    def __str__(self) -> str:
        found, recorded = (interval(each, " %") for each in (self.found, self.recorded))
        return f"{self.subject} at {self.size}: {found}, recorded {recorded}"


@dataclass(frozen=True)
class Agreement:
    """How many losses could be compared with those of ``source``, and which of them are apart."""

    source: Path
    compared: int
    apart: tuple[Apart, ...]

    def __str__(self) -> str:
        met = f"{self.compared - len(self.apart)} of {self.compared} intervals meet those of {self.source}"
        return "; ".join([met, *map(str, self.apart)])

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "source": str(self.source)}

    def require(self) -> None:
        """Raise :class:`ParityError` where an interval does not meet the recorded one."""
        if self.apart:
            raise ParityError(
                f"{len(self.apart)} of {self.compared} losses are apart from those of {self.source} by more than their "
                "intervals",
                hint="other weights, other code or too few images; what was measured is written all the same",
            )


def read_recorded(path: Path) -> Recorded:
    """A study as ``dpt-deploy study`` writes it to ``study.json``; raises :class:`BadFileError` for anything else."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes; expected a few hundred thousand")
        data = json.loads(path.read_bytes())
        if data["kind"] != KIND:
            raise ValueError(f"it is a record of {data['kind']!r}")
        return Recorded(path, str(data["trained"]), str(data["data"]["protocol"]), _losses(data["rows"]))
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BadFileError(
            f"{path} is no recorded study ({exc!r})", hint="give the study.json of an earlier `dpt-deploy study`"
        ) from exc


def _losses(rows: Any) -> dict[Point, Estimate]:
    keys = ("loss_percent", "loss_percent_low", "loss_percent_high")
    return {(str(row["subject"]), str(row["size"])): Estimate(*(float(row[key]) for key in keys)) for row in rows}


def check_comparable(recorded: Recorded, *, trained: str, protocol: str, sizes: Collection[str]) -> None:
    """Refuse, before anything is measured, to compare with what was measured otherwise.

    Raises:
        IncompatibleError: another training size or measure, or none of the sizes beside it.
    """
    for what, theirs, ours in (("trained at", recorded.trained, trained), ("measure", recorded.protocol, protocol)):
        if theirs != ours:
            raise IncompatibleError(
                f"{recorded.source}: {what} {theirs!r}, here {ours!r}", hint="compare with a study of the same kind"
            )
    if not any(size in sizes and size != trained for _, size in recorded.losses):
        raise IncompatibleError(
            f"{recorded.source} has none of the sizes {', '.join(sizes)}", hint="ask for sizes that it has"
        )


def agreement(study: Study, recorded: Recorded) -> Agreement:
    """Every loss that both studies have, but those at the training size, which are 0 by definition.

    Raises:
        IncompatibleError: there is none.
    """
    trained = str(study.scores.trained)
    found = {
        (curve.subject, str(size)): loss
        for curve in study.analysis.curves
        for size, loss in zip(study.scores.sizes, curve.loss, strict=True)
    }
    common = [point for point in recorded.losses if point in found and point[1] != trained]
    if not common:
        raise IncompatibleError(f"{recorded.source} has none of these models", hint="ask for models that it has")
    pairs = [(point, found[point], recorded.losses[point]) for point in common]
    apart = tuple(Apart(*point, ours, theirs) for point, ours, theirs in pairs if not _meet(ours, theirs))
    return Agreement(recorded.source, len(common), apart)


def _meet(one: Estimate, other: Estimate) -> bool:
    return one.low <= other.high and other.low <= one.high
