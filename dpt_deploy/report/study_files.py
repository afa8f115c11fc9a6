"""Figure and page of a study. Needs the extra ``study``; the numbers are in :mod:`.study_numbers`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.outcome import Candidate, Study, hardest
from dpt_deploy.jobs.study.resolution import paper_range
from dpt_deploy.jobs.study.scoring import OpenModels
from dpt_deploy.jobs.study.study import StudySetup

with extra("study", purpose="drawing the figure and the report"):
    from dpt_deploy.report.exhibits import Exhibit, View
    from dpt_deploy.report.figures.resolution_figure import chart, save_figure
    from dpt_deploy.report.study_page import HARDEST, Gallery, render

_MOST_KINDS = 4
_EVERY = 2  # step of the pixels kept for a picture, which is shown at less than half its size


def write_pictures(study: Study, models: Sequence[CandidateModel], setup: StudySetup, out: Path) -> None:
    """Write ``figure.svg``, ``figure.png`` and ``report.html``."""
    title = f"Accuracy against inference resolution ({study.data.name}, trained at {study.scores.trained})"
    save_figure(chart(study), title, [out / "figure.svg", out / "figure.png"])
    atomic_write_bytes(out / "report.html", render(study, _gallery(study, models, setup)).encode())


def _gallery(study: Study, models: Sequence[CandidateModel], setup: StudySetup) -> Gallery:
    first = study.models[0]
    shown = [each for each in study.models if (each.runtime, each.precision) == (first.runtime, first.precision)]
    names = {each.name for each in shown}
    inside = paper_range(study.scores.sizes, study.scores.trained)
    sizes = sorted({study.scores.trained, study.scores.sizes[inside[-1]], study.scores.sizes[-1]})
    with ExitStack() as stack:
        open_models = OpenModels(stack, [each for each in models if each.candidate.name in names], setup.images, sizes)
        exhibits = [_exhibit(study, setup, open_models, image, shown, sizes) for image in _typical(study, setup, names)]
        worst = {
            each.name: [
                _exhibit(study, setup, open_models, image, [each], [study.scores.trained])
                for image, _ in hardest(study.scores, each.name, HARDEST)
            ]
            for each in shown
        }
    return Gallery(
        tuple(filter(None, exhibits)), {name: tuple(filter(None, exhibits)) for name, exhibits in worst.items()}
    )


def _typical(study: Study, setup: StudySetup, names: set[str]) -> list[str]:
    """Choose the image of median difficulty of each kind at the training size; of a single kind, its quantiles."""
    rows = [index for index, name in enumerate(study.scores.candidates) if name in names]
    errors = study.scores.values[rows, study.scores.reference].mean(axis=0)
    kinds: dict[str, list[int]] = {}
    for index, image in enumerate(study.scores.images):
        kinds.setdefault(setup.images.kind(image), []).append(index)
    ranked = [sorted(members, key=lambda index: errors[index]) for _, members in sorted(kinds.items())]
    if len(ranked) == 1:
        places = np.linspace(0, len(ranked[0]) - 1, _MOST_KINDS + 2)[1:-1].round().astype(int)
        return list(dict.fromkeys(study.scores.images[ranked[0][place]] for place in places))
    return [study.scores.images[members[len(members) // 2]] for members in ranked[:_MOST_KINDS]]


def _exhibit(
    study: Study,
    setup: StudySetup,
    open_models: OpenModels,
    image: str,
    candidates: Sequence[Candidate],
    sizes: Sequence[Size],
) -> Exhibit | None:
    """An image with its ground truth and the candidates' outputs; None if it is no longer readable."""
    scores, images = study.scores, setup.images
    try:
        sample, _ = images.read(image)
    except BadFileError:
        return None
    views = []
    for candidate in candidates:
        row, column = scores.candidates.index(candidate.name), scores.images.index(image)
        for size in sizes:
            nearness = images.nearness(open_models.output(candidate.name, size, sample), sample)
            error = float(scores.values[row, scores.sizes.index(size), column])
            views.append(View(candidate.name, str(size), nearness[::_EVERY, ::_EVERY].astype(np.float32), error))
    truth = images.truth(sample)[::_EVERY, ::_EVERY].astype(np.float32)
    return Exhibit(image, images.kind(image), sample.image, truth, tuple(views))
