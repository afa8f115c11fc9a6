"""Every image at every size by every model, once: scores are kept as they are made, and only missing ones are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

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

BASELINE = "abs_rel"  # what the figure is drawn from
_PLANE = "plane"  # the journal's name for the baseline, which has no size
_PROTOCOL = 1  # raised when the same image and weights would score otherwise


class OpenModels:
    """Models held open, each at every size: what turns an image into outputs."""

    def __init__(
        self, stack: ExitStack, candidates: Sequence[CandidateModel], images: Images, sizes: Sequence[Size]
    ) -> None:
        self._predictors: dict[tuple[str, Size], Predictor] = {}
        for each in candidates:
            runner, sidecar = stack.enter_context(each.runner()), each.artifact.sidecar
            for size in sizes:
                rule = images.rule(sidecar.image, size)
                self._predictors[each.candidate.name, size] = Predictor(runner, replace(sidecar, image=rule))

    def output(self, candidate: str, size: Size, sample: Sample) -> np.ndarray:
        """What the network returns for an image, (h, w) at the network's own resolution.

        Raises:
            ParityError: it returned NaN or infinity.
        """
        predictor = self._predictors[candidate, size]
        output: np.ndarray = predictor.infer(predictor.prepare(sample.image))[0]
        if not np.isfinite(output).all():
            raise _not_a_number(candidate, size, sample.name, "returned NaN or infinity")
        return output


class Scoring:
    """The scores of ``candidates`` on ``images`` at ``sizes``, kept in ``journal``."""

    def __init__(
        self, candidates: Sequence[CandidateModel], images: Images, sizes: Sequence[Size], journal: Journal
    ) -> None:
        self._candidates, self._images, self._sizes, self._journal = candidates, images, sizes, journal

    def run(self) -> list[tuple[str, str]]:
        """Add every score that is missing; return the images that cannot be used, with the reasons.

        Raises:
            ParityError: a model returned NaN or infinity, or errs without bound.
            ResourceError: the journal cannot be written.
        """
        failures = []
        todo = [name for name in self._images.names if self._missing(name)]
        with ExitStack() as stack, progress("images", len(todo)) as images:
            bench = OpenModels(stack, self._candidates if todo else [], self._images, self._sizes)
            for name in todo:
                try:
                    self._score(bench, name)
                except BadFileError as exc:
                    say(f"left out: {exc}")
                    failures.append((name, str(exc)))
                images.advance(item=name)
        return failures

    def collected(self, trained: Size, left_out: set[str]) -> Scores:
        """The scores of all images but those ``left_out``."""
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
        """Another error of a candidate at a size, of each of ``images``."""
        (candidate,) = (each for each in self._candidates if each.candidate.name == candidate)
        return np.array([self._found(self._key(candidate), str(size), image)[name] for image in images])

    def _missing(self, image: str) -> list[tuple[CandidateModel, Size]]:
        """The candidates and sizes without a score on ``image``; without a baseline it is all of them."""
        every = [(each, size) for each in self._candidates for size in self._sizes]
        if self._journal.get(self._key(), "", image) is None:
            return every
        return [(each, size) for each, size in every if self._journal.get(self._key(each), str(size), image) is None]

    def _score(self, bench: OpenModels, image: str) -> None:
        sample, plane = self._images.read(image)
        for each, size in self._missing(image):
            errors = self._images.errors(bench.output(each.candidate.name, size, sample), sample)
            if not all(map(math.isfinite, errors.values())):
                raise _not_a_number(each.candidate.name, size, image, "errs without bound")
            self._journal.add(self._key(each), str(size), image, errors)
        self._journal.add(self._key(), "", image, plane)

    def _key(self, candidate: CandidateModel | None = None) -> str:
        """What a score depends on besides size and image."""
        who = candidate.key if candidate else _PLANE
        return f"{who} on {self._images.data.key}, protocol {_PROTOCOL}"

    def _found(self, key: str, size: str, image: str) -> Errors:
        found = self._journal.get(key, size, image)
        if found is None:
            raise KeyError(f"{image} has no score at {size}")
        return found


def _not_a_number(candidate: str, size: Size, image: str, what: str) -> ParityError:
    return ParityError(
        f"{candidate} {what} at {size} for {image}", hint=f"run `dpt-deploy verify` on its file with --res {size}"
    )
