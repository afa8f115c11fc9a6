"""Errors of every candidate at every size under every condition; existing scores in the journal are reused."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import numpy as np

from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.base import Sample
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Errors, Journal
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.robustness.statistics import Condition, ConditionScores
from dpt_deploy.jobs.study.scoring import OpenModels, each_image

Damage = Callable[[Sample, Condition], Sample]  # a sample under a condition, its truth where its pixels are
METRICS = ("dee", "abs_rel", "delta1")
_PICTURE, _CRC = "picture", "crc32"


@dataclass(frozen=True)
class Subject:
    """A candidate at a size."""

    model: CandidateModel
    size: Size
    name: str


def subjects_of(models: Sequence[CandidateModel], sizes: Sequence[Size]) -> list[Subject]:
    """Every candidate at every size; the size is part of the name if there are several."""
    return [
        Subject(each, size, f"{each.candidate.name} at {size}" if len(sizes) > 1 else each.candidate.name)
        for each, size in product(models, sizes)
    ]


class ConditionScoring:
    """Scores of ``subjects`` on ``images`` under ``conditions``, kept in ``journal``.

    ``damage`` makes the sample of a condition, with the truth to compare with. ``key`` names everything that
    it depends on besides image and condition.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        images: Images,
        conditions: Sequence[Condition],
        damage: Damage,
        key: str,
        journal: Journal,
    ) -> None:
        self._subjects, self._images, self._conditions = subjects, images, conditions
        self._damage, self._about, self._journal = damage, f"on {images.data.key}, {key}", journal

    def run(self) -> list[tuple[str, str]]:
        """Add every missing score; return the unusable images with the reasons.

        Raises:
            ParityError: a model returned NaN or infinity, or its error is infinite.
            ResourceError: the journal cannot be written.
        """
        todo = [name for name in self._images.names if any(True for _ in self._missing(name))]
        with ExitStack() as stack:
            models = {each.model.candidate.name: each.model for each in self._subjects} if todo else {}
            sizes = list(dict.fromkeys(each.size for each in self._subjects))
            opened = OpenModels(stack, list(models.values()), self._images, sizes)
            return each_image(todo, lambda name: self._score(opened, name))

    def collected(self, metric: str, left_out: set[str]) -> ConditionScores:
        """Return one of :data:`METRICS` for all images except those ``left_out``."""
        names = tuple(name for name in self._images.names if name not in left_out)
        values = [
            _metric(metric, self._found(self._key(subject), str(subject.size), name, condition))
            for subject in self._subjects
            for condition in self._conditions
            for name in names
        ]
        shape = (len(self._subjects), len(self._conditions), len(names))
        return ConditionScores(
            tuple(each.name for each in self._subjects),
            tuple(self._conditions),
            names,
            np.array(values).reshape(shape),
            tuple(self._images.kind(name) for name in names),
        )

    def pictures(self, condition: Condition, names: Sequence[str]) -> str:
        """Return a checksum of the images ``names`` under a condition: equal if all their bytes are."""
        found = [int(self._found(self._key(), _PICTURE, name, condition)[_CRC]) for name in names]
        return f"{zlib.crc32(np.array(found, np.uint32).tobytes()):08x}"

    def _missing(self, image: str) -> Iterator[tuple[Condition, list[Subject]]]:
        """Conditions of an image without all scores, each with the subjects that lack one."""
        for condition in self._conditions:
            found = [
                each
                for each in self._subjects
                if self._journal.get(self._key(each), str(each.size), _name(image, condition)) is None
            ]
            if found or self._journal.get(self._key(), _PICTURE, _name(image, condition)) is None:
                yield condition, found

    def _score(self, opened: OpenModels, image: str) -> None:
        sample, _ = self._images.read(image)
        for condition, subjects in list(self._missing(image)):
            damaged = self._damage(sample, condition)
            for each in subjects:
                output = opened.output(each.model.candidate.name, each.size, damaged)
                errors = self._images.errors(output, damaged)
                if not errors:
                    raise BadFileError(
                        f"{image} has no pixel with ground truth to measure under {condition}", hint="leave it out"
                    )
                if not all(map(math.isfinite, errors.values())):
                    raise ParityError(
                        f"{each.name} has an infinite error on {image} under {condition}",
                        hint=f"run `dpt-deploy verify` on its file with --res {each.size}",
                    )
                self._journal.add(self._key(each), str(each.size), _name(image, condition), errors)
            crc = float(zlib.crc32(np.ascontiguousarray(damaged.image).tobytes()))
            self._journal.add(self._key(), _PICTURE, _name(image, condition), {_CRC: crc})

    def _key(self, subject: Subject | None = None) -> str:
        return f"{subject.model.key if subject else _PICTURE} {self._about}"

    def _found(self, key: str, size: str, image: str, condition: Condition) -> Errors:
        found = self._journal.get(key, size, _name(image, condition))
        if found is None:
            raise KeyError(f"{image} has no score at {size} under {condition}")
        return found


def _name(image: str, condition: Condition) -> str:
    return f"{image} {condition}"


def _metric(name: str, errors: Errors) -> float:
    """A metric; ``dee`` is the depth estimation error (AbsRel + 1 - delta1) / 2, in 0..1 where AbsRel is below 1."""
    return (errors["abs_rel"] + 1 - errors["delta1"]) / 2 if name == "dee" else errors[name]
