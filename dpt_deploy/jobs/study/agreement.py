"""Agreement of a study with a recorded one: curves measured on other images may differ by chance only."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dpt_deploy.artifact.commit import recover
from dpt_deploy.core.errors import IncompatibleError, ParityError
from dpt_deploy.core.size import parse_size
from dpt_deploy.jobs.common.recorded import read_record, require_same
from dpt_deploy.jobs.study.findings import interval
from dpt_deploy.jobs.study.outcome import KIND, NUMBERS, PICTURES, STAGED, Candidate, Study
from dpt_deploy.jobs.study.resolution import Scores
from dpt_deploy.measure.bootstrap import Estimate

_MAX_BYTES = 1 << 26  # a study of a thousand images has about a megabyte
Found = TypeVar("Found")
Key = tuple[str, str, str, str]  # of a candidate: model, runtime, precision, planted defect


@dataclass(frozen=True)
class Recorded:
    """A recorded study: its data, protocol and images, and its losses in percent by candidate and size."""

    source: Path
    data: str
    protocol: str
    trained: str
    images: frozenset[str]
    losses: Mapping[tuple[Key, str], Estimate]

    @property
    def candidates(self) -> frozenset[Key]:
        """Candidates with recorded losses."""
        return frozenset(key for key, _ in self.losses)


@dataclass(frozen=True)
class Apart:
    """A loss in percent whose 95 % interval does not overlap with the recorded one."""

    candidate: str
    size: str
    found: Estimate
    recorded: Estimate

    def __str__(self) -> str:
        found, recorded = (interval(each, " %") for each in (self.found, self.recorded))
        return f"{self.candidate} at {self.size}: {found}, recorded {recorded}"


@dataclass(frozen=True)
class Agreement:
    """Comparison with the recorded study ``source``: the number of ``compared`` losses and those that are ``apart``.

    ``shared`` of the ``images`` belong to the recorded study, too, and confirm nothing new. ``unknown`` are the
    candidates that the recorded study lacks.
    """

    source: Path
    compared: int
    apart: tuple[Apart, ...]
    images: int
    shared: int
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        found = f"{self.compared - len(self.apart)} of {self.compared} intervals overlap with those of {self.source}"
        parts = [found, *map(str, self.apart)]
        if self.shared:
            parts.append(f"{self.shared} of {self.images} images are in both studies and confirm nothing new")
        if self.unknown:
            parts.append(f"not in the recorded study: {', '.join(self.unknown)}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        apart = [
            {"subject": each.candidate, **{key: value for key, value in asdict(each).items() if key != "candidate"}}
            for each in self.apart
        ]
        return {**asdict(self), "source": str(self.source), "apart": apart}

    def require(self) -> None:
        """Raise :class:`ParityError` if an interval does not overlap with the recorded one."""
        if self.apart:
            raise ParityError(
                f"{len(self.apart)} of {self.compared} losses differ from those of {self.source} by more than their "
                "intervals",
                hint="the weights or the code changed, or it is chance: try another --seed; the results were written",
            )


def read_recorded(path: Path) -> Recorded:
    """Read a ``study.json`` of ``dpt-deploy study``; raises :class:`BadFileError` for any other file."""
    return _read(path, lambda data: _recorded(path, data))


def read_scores(path: Path) -> Scores:
    """Read the errors of every image in a recorded study; raises :class:`BadFileError` for any other file."""
    return _read(path, _scores)


def _read(path: Path, parse: Callable[[Any], Found]) -> Found:
    def parse_study(data: Any) -> Found:
        if data["kind"] != KIND:
            raise ValueError(f"its kind is {data['kind']!r}; expected {KIND!r}")
        return parse(data)

    recover(path.parent, STAGED, lambda name: name in (*PICTURES, *NUMBERS))
    return read_record(
        path,
        parse_study,
        what="a recorded study",
        hint="give the study.json of an earlier `dpt-deploy study`",
        max_bytes=_MAX_BYTES,
    )


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
    """Identity of a candidate across studies; names omit the runtime or precision if a study has only one."""
    return candidate.model, candidate.runtime, candidate.precision, candidate.control


def _loss(row: Any) -> Estimate:
    value, low, high = (float(row[key]) for key in ("loss_percent", "loss_percent_low", "loss_percent_high"))
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{row['subject']} at {row['size']} loses {value} % ({low} to {high})")
    return Estimate(value, low, high)


def check_comparable(
    recorded: Recorded, *, data: str, protocol: str, trained: str, sizes: Collection[str], models: Collection[str]
) -> None:
    """Check before any measurement that a study can be compared with the recorded one.

    Raises:
        IncompatibleError: data, measure or training size differ, or no size or no model is in common.
    """
    require_same(
        f"the study {recorded.source}",
        [
            ("measured on", recorded.data, data),
            ("measure", recorded.protocol, protocol),
            ("trained at", recorded.trained, trained),
        ],
        hint="compare with a study of the same kind",
    )
    if not any(size in sizes and size != trained for _, size in recorded.losses):
        raise IncompatibleError(
            f"{recorded.source} has none of the sizes {', '.join(sizes)}", hint="request sizes of the recorded study"
        )
    if not any(model in models for model, *_ in recorded.candidates):
        raise IncompatibleError(
            f"{recorded.source} has none of {', '.join(models)}; it has {_listed(recorded.candidates)}",
            hint="request models of the recorded study",
        )


def check_candidates(recorded: Recorded, candidates: Collection[Candidate]) -> None:
    """Check that the two studies have a candidate in common.

    Raises:
        IncompatibleError: the recorded study has none of the ``candidates``.
    """
    if not recorded.candidates & {_key(candidate) for candidate in candidates}:
        raise IncompatibleError(
            f"{recorded.source} has none of {_listed(map(_key, candidates))}; it has {_listed(recorded.candidates)}",
            hint="request models, runtimes and precisions of the recorded study",
        )


def _listed(keys: Iterable[Key]) -> str:
    return ", ".join(sorted(" ".join(key[:3]) for key in keys))


def agreement(study: Study, recorded: Recorded) -> Agreement:
    """Compare all losses that both studies have, except those at the training size, which are 0 by definition.

    Some 95 % intervals do not overlap even if nothing has changed. ``benchmarks/check_power.py`` measures how often
    this makes a study disagree.

    Raises:
        IncompatibleError: the studies have no candidate in common.
    """
    check_candidates(recorded, study.candidates)
    found = list(_found(study))
    pairs = [(name, size, loss, recorded.losses.get((key, size))) for name, key, size, loss in found]
    common = [(name, size, loss, old) for name, size, loss, old in pairs if old]
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
