"""Do two studies of the same models agree? Curves measured on other images may differ by chance, and by no more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dpt_deploy.core.errors import BadFileError, IncompatibleError, ParityError, UsageError
from dpt_deploy.core.size import parse_size
from dpt_deploy.jobs.study.findings import interval
from dpt_deploy.jobs.study.outcome import KIND, Study, Candidate
from dpt_deploy.jobs.study.resolution import Scores
from dpt_deploy.measure.bootstrap import Estimate

_MAX_BYTES = 1 << 26  # a record of a thousand images has a megabyte
Found = TypeVar("Found")
Key = tuple[str, str, str, str]  # of a candidate: model, runtime, precision, planted defect


@dataclass(frozen=True)
class Recorded:
    """A study that was written before: what it measured on and how, and its losses in percent by candidate and size."""

    source: Path
    data: str
    protocol: str
    trained: str
    images: frozenset[str]
    losses: Mapping[tuple[Key, str], Estimate]

    @property
    def candidates(self) -> frozenset[Key]:
        """Whose losses it has."""
        return frozenset(key for key, _ in self.losses)


@dataclass(frozen=True)
class Apart:
    """A loss in percent whose 95 % interval does not meet the recorded one."""

    candidate: str
    size: str
    found: Estimate
    recorded: Estimate

    def __str__(self) -> str:
        found, recorded = (interval(each, " %") for each in (self.found, self.recorded))
        return f"{self.candidate} at {self.size}: {found}, recorded {recorded}"


@dataclass(frozen=True)
class Agreement:
    """How many losses could be compared with those of ``source``, and which of them are apart.

    ``shared`` of the ``images`` are those of the record, too: to that extent one study is the other. ``unknown`` are
    the candidates that the record has not.
    """

    source: Path
    compared: int
    apart: tuple[Apart, ...]
    images: int
    shared: int
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        met = f"{self.compared - len(self.apart)} of {self.compared} intervals meet those of {self.source}"
        said = [met, *map(str, self.apart)]
        if self.shared:
            said.append(f"{self.shared} of {self.images} images are its own: of those it says nothing new")
        if self.unknown:
            said.append(f"it has no {', '.join(self.unknown)}")
        return "; ".join(said)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "source": str(self.source)}

    def require(self) -> None:
        """Raise :class:`ParityError` where an interval does not meet the recorded one."""
        if self.apart:
            raise ParityError(
                f"{len(self.apart)} of {self.compared} losses are apart from those of {self.source} by more than their "
                "intervals",
                hint="other weights, other code, or chance: try another --seed; what was measured is written anyway",
            )


def read_recorded(path: Path) -> Recorded:
    """A study as ``dpt-deploy study`` writes it to ``study.json``; raises :class:`BadFileError` for anything else."""
    return _read(path, lambda data: _recorded(path, data))


def read_scores(path: Path) -> Scores:
    """The errors of every image in a recorded study; raises :class:`BadFileError` where ``path`` is none."""
    return _read(path, _scores)


def _read(path: Path, made: Callable[[Any], Found]) -> Found:
    """What ``made`` finds in the record ``path``."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes; expected a few hundred thousand")
        data = json.loads(path.read_bytes())
        if data["kind"] != KIND:
            raise ValueError(f"it is a record of {data['kind']!r}")
        return made(data)
    except (OSError, UsageError, ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BadFileError(
            f"{path} is no recorded study ({exc!r})", hint="give the study.json of an earlier `dpt-deploy study`"
        ) from exc


def _recorded(path: Path, data: Any) -> Recorded:
    name, protocol, trained = data["data"]["name"], data["data"]["protocol"], data["trained"]
    return Recorded(path, str(name), str(protocol), str(trained), frozenset(map(str, data["images"])), _losses(data))


def _scores(data: Any) -> Scores:
    values = np.array([list(by_size.values()) for by_size in data["abs_rel"].values()], float)
    plane = np.array(data["abs_rel_of_plane"], float)
    if not (np.isfinite(values).all() and np.isfinite(plane).all()):
        raise ValueError("an error is not finite")
    return Scores(
        tuple(map(str, data["abs_rel"])),
        tuple(parse_size(size, stride=1) for size in data["sizes"]),
        parse_size(data["trained"], stride=1),
        tuple(map(str, data["images"])),
        values,
        plane,
        tuple(map(str, data["kinds"])),
    )


def _losses(data: Any) -> dict[tuple[Key, str], Estimate]:
    keys = {str(each["name"]): _key(Candidate(**each)) for each in data["subjects"]}
    return {(keys[str(row["subject"])], str(row["size"])): _loss(row) for row in data["rows"]}


def _key(candidate: Candidate) -> Key:
    """What is the same in two studies; the name says less where a study has one runtime or precision."""
    return candidate.model, candidate.runtime, candidate.precision, candidate.control


def _loss(row: Any) -> Estimate:
    value, low, high = (float(row[key]) for key in ("loss_percent", "loss_percent_low", "loss_percent_high"))
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{row['subject']} at {row['size']} loses {value} % ({low} to {high})")
    return Estimate(value, low, high)


def check_comparable(
    recorded: Recorded, *, data: str, protocol: str, trained: str, sizes: Collection[str], models: Collection[str]
) -> None:
    """Refuse, before anything is measured, to compare with what was measured otherwise.

    Raises:
        IncompatibleError: other data, another measure or training size, none of the sizes beside it, or of the models.
    """
    for what, theirs, ours in (
        ("measured on", recorded.data, data),
        ("measure", recorded.protocol, protocol),
        ("trained at", recorded.trained, trained),
    ):
        if theirs != ours:
            raise IncompatibleError(
                f"{recorded.source}: {what} {theirs!r}, here {ours!r}", hint="compare with a study of the same kind"
            )
    if not any(size in sizes and size != trained for _, size in recorded.losses):
        raise IncompatibleError(
            f"{recorded.source} has none of the sizes {', '.join(sizes)}", hint="ask for sizes that it has"
        )
    if not any(model in models for model, *_ in recorded.candidates):
        raise IncompatibleError(
            f"{recorded.source} has none of {', '.join(models)}; it has {_listed(recorded.candidates)}",
            hint="ask for models that it has",
        )


def check_candidates(recorded: Recorded, candidates: Collection[Candidate]) -> None:
    """Refuse to compare where nothing is in common.

    Raises:
        IncompatibleError: the record has none of the ``candidates``.
    """
    if not recorded.candidates & {_key(candidate) for candidate in candidates}:
        raise IncompatibleError(
            f"{recorded.source} has none of {_listed(map(_key, candidates))}; it has {_listed(recorded.candidates)}",
            hint="ask for models, runtimes and precisions that it has",
        )


def _listed(keys: Iterable[Key]) -> str:
    return ", ".join(sorted(" ".join(key[:3]) for key in keys))


def agreement(study: Study, recorded: Recorded) -> Agreement:
    """Every loss that both studies have, but those at the training size, which are 0 by definition.

    Where nothing has changed, intervals of 95 % still miss one another now and then; how often that makes a study of
    other scenes disagree is measured by ``benchmarks/check_power.py``.

    Raises:
        IncompatibleError: they have no candidate in common.
    """
    check_candidates(recorded, study.candidates)
    found = list(_found(study))
    pairs = [(name, size, loss, recorded.losses.get((key, size))) for name, key, size, loss in found]
    common = [(name, size, loss, theirs) for name, size, loss, theirs in pairs if theirs]
    return Agreement(
        recorded.source,
        len(common),
        tuple(Apart(*each) for each in common if not each[2].meets(each[3])),
        len(study.scores.images),
        len(recorded.images.intersection(study.scores.images)),
        tuple(candidate.name for candidate in study.candidates if _key(candidate) not in recorded.candidates),
    )


def _found(study: Study) -> Iterator[tuple[str, Key, str, Estimate]]:
    for candidate in study.candidates:
        losses = study.curve(candidate.name).loss
        for index in study.scores.others:
            yield candidate.name, _key(candidate), str(study.scores.sizes[index]), losses[index]
