"""Scores of every candidate at every size on every image; existing scores in the journal are reused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.base import Sample
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Errors, Journal
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.resolution import Scores
from dpt_deploy.runtime.predictor import Predictor

BASELINE = "abs_rel"  # the metric of the figure
_PLANE = "plane"  # the journal's key of the plane, which has no size
_PROTOCOL = 1  # increased when scores of the same image and weights change


class OpenModels:
    """The candidates' models, held open for every size."""

    def __init__(
        self, stack: ExitStack, candidates: Sequence[CandidateModel], images: Images, sizes: Sequence[Size]
    ) -> None:
        self._predictors: dict[tuple[str, Size], tuple[Predictor, str]] = {}
        for each in candidates:
            runner, sidecar = stack.enter_context(each.runner()), each.artifact.sidecar
            scored = next(output.name for output in sidecar.outputs if output.task in images.tasks)
            for size in sizes:
                predictor = Predictor(runner, sidecar, image=images.rule(sidecar.image, size))
                self._predictors[each.candidate.name, size] = predictor, scored

    def output(self, candidate: str, size: Size, sample: Sample) -> np.ndarray:
        """Run a network on an image; its depth is (h, w) at the network's own resolution, logits are (classes, h, w).

        Raises:
            ParityError: the output has NaN or infinity.
        """
        predictor, name = self._predictors[candidate, size]
        output: np.ndarray = predictor.infer_all(predictor.prepare(sample.image))[name][0]
        if not np.isfinite(output).all():
            raise _not_a_number(candidate, size, sample.name, "returned NaN or infinity")
        return output


def each_image(names: Sequence[str], score: Callable[[str], None]) -> list[tuple[str, str]]:
    """Call ``score`` with every name; return the unusable images with the reasons."""
    failures = []
    with progress("images", len(names)) as images:
        for name in names:
            try:
                score(name)
            except BadFileError as exc:
                say(f"left out: {exc}")
                failures.append((name, str(exc)))
            images.advance(item=name)
    return failures


class Scoring:
    """Scores of ``candidates`` on ``images`` at ``sizes``, kept in ``journal``."""

    def __init__(
        self, candidates: Sequence[CandidateModel], images: Images, sizes: Sequence[Size], journal: Journal
    ) -> None:
        self._candidates, self._images, self._sizes, self._journal = candidates, images, sizes, journal

    def run(self) -> list[tuple[str, str]]:
        """Add every missing score; return the unusable images with the reasons.

        Raises:
            ParityError: a model returned NaN or infinity, or its error is infinite.
            ResourceError: the journal cannot be written.
        """
        todo = [name for name in self._images.names if self._missing(name)]
        with ExitStack() as stack:
            models = OpenModels(stack, self._candidates if todo else [], self._images, self._sizes)
            return each_image(todo, lambda name: self._score(models, name))

    def collected(self, trained: Size, left_out: set[str]) -> Scores:
        """Return the scores of all images except those ``left_out``."""
        names = tuple(name for name in self._images.names if name not in left_out)
        shape = (len(self._candidates), len(self._sizes), len(names))
        values = [
            self._found(self._key(each), str(size), name)[BASELINE]
            for each in self._candidates
            for size in self._sizes
            for name in names
        ]
        plane = [self._found(self._key(), "", name)[BASELINE] for name in names]
        candidates = tuple(each.candidate.name for each in self._candidates)
        return Scores(
            candidates,
            tuple(self._sizes),
            trained,
            names,
            np.array(values).reshape(shape),
            np.array(plane),
            tuple(self._images.kind(name) for name in names),
        )

    def metric(self, name: str, candidate: str, size: Size, images: Sequence[str]) -> np.ndarray:
        """Return another metric of a candidate at a size, for each of ``images``."""
        (model,) = (each for each in self._candidates if each.candidate.name == candidate)
        return np.array([self._found(self._key(model), str(size), image)[name] for image in images])

    def _missing(self, image: str) -> list[tuple[CandidateModel, Size]]:
        """Candidates and sizes without a score on ``image``; all of them if the plane has no score either."""
        every = [(each, size) for each in self._candidates for size in self._sizes]
        if self._journal.get(self._key(), "", image) is None:
            return every
        return [(each, size) for each, size in every if self._journal.get(self._key(each), str(size), image) is None]

    def _score(self, models: OpenModels, image: str) -> None:
        sample, plane = self._images.read(image)
        for each, size in self._missing(image):
            errors = self._images.errors(models.output(each.candidate.name, size, sample), sample)
            if not all(map(math.isfinite, errors.values())):
                raise _not_a_number(each.candidate.name, size, image, "has an infinite error")
            self._journal.add(self._key(each), str(size), image, errors)
        self._journal.add(self._key(), "", image, plane)

    def _key(self, candidate: CandidateModel | None = None) -> str:
        """Everything that a score depends on besides size and image."""
        scored = candidate.key if candidate else _PLANE
        return f"{scored} on {self._images.data.key}, protocol {_PROTOCOL}"

    def _found(self, key: str, size: str, image: str) -> Errors:
        found = self._journal.get(key, size, image)
        if found is None:
            raise KeyError(f"{image} has no score at {size}")
        return found


def _not_a_number(candidate: str, size: Size, image: str, what: str) -> ParityError:
    return ParityError(
        f"{candidate} {what} at {size} for {image}", hint=f"run `dpt-deploy verify` on its file with --res {size}"
    )
