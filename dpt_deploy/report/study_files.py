"""What a study leaves behind: numbers for machines, the figure, and a page for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study import findings
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.outcome import Candidate, Study, hardest
from dpt_deploy.jobs.study.resolution import paper_range
from dpt_deploy.jobs.study.scoring import OpenModels
from dpt_deploy.jobs.study.study import RECORD, StudySetup

if TYPE_CHECKING:
    from dpt_deploy.report.exhibits import Exhibit
    from dpt_deploy.report.study_page import Gallery

_MOST_KINDS = 4
_EVERY = 2  # pixels of a picture that are kept: they are shown at less than half their size
NUMBERS = (RECORD, "study.csv")
PICTURES = ("figure.svg", "figure.png", "report.html")


@dataclass(frozen=True)
class StudySummary:
    """A study for a terminal: what must be known first, the loss at every size, and what follows from it."""

    cautions: list[str]
    title: str
    columns: list[str]
    rows: list[list[str]]
    sentences: list[str]


def summary(study: Study) -> StudySummary:
    """The study in a table and a few sentences."""
    trained, curves = str(study.scores.trained), study.analysis.curves
    rows = [
        [size, f"{times:.2f}", *(findings.interval(curve.loss[index]) for curve in curves)]
        for index, (times, size) in enumerate(study.ticks())
    ]
    at = study.scores.reference
    rows.append(["AbsRel", f"at {trained}", *(f"{curve.error[at].value:.4f}" for curve in curves)])
    rows.append(
        ["of a plane's", f"at {trained}", *(f"{100 * curve.share_of_plane[at].value:.0f} %" for curve in curves)]
    )
    return StudySummary(
        cautions=findings.cautions(study),
        title=f"loss of accuracy in % against {trained}, {len(study.scores.images)} images of {study.data.name}",
        columns=["size", "times", *(curve.candidate for curve in curves)],
        rows=rows,
        sentences=[
            *findings.ordering(study),
            *findings.precisions(study),
            findings.control(study),
            *findings.references(study),
        ],
    )


def require_drawing() -> None:
    """Raise :class:`MissingExtraError` now, rather than after minutes of work, where nothing can be drawn."""
    with extra("study", purpose="drawing the figure and the report"):
        import dpt_deploy.report.study_page  # noqa: F401


def write_numbers(study: Study, out: Path) -> None:
    """``study.json`` with everything, ``study.csv`` with the rows of the figure."""
    rows = study.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(out / "study.csv", text.getvalue().encode())
    atomic_write_bytes(out / RECORD, (json.dumps(study.to_dict(), indent=1) + "\n").encode())


def write_pictures(study: Study, models: Sequence[CandidateModel], setup: StudySetup, out: Path) -> None:
    """``figure.svg``, ``figure.png`` and ``report.html``; raises :class:`MissingExtraError` without matplotlib."""
    require_drawing()
    from dpt_deploy.report import resolution_figure as plots
    from dpt_deploy.report import study_page as report

    shown = plots.chart(study)
    title = f"Accuracy against inference resolution ({study.data.name}, trained at {study.scores.trained})"
    plots.save_figure(shown, title, [out / "figure.svg", out / "figure.png"])
    page = report.render(study, _gallery(study, models, setup))
    atomic_write_bytes(out / "report.html", page.encode())


def _gallery(study: Study, models: Sequence[CandidateModel], setup: StudySetup) -> Gallery:
    from dpt_deploy.report.study_page import HARDEST, Gallery

    first = study.models[0]
    shown = [each for each in study.models if (each.runtime, each.precision) == (first.runtime, first.precision)]
    names = {each.name for each in shown}
    inside = paper_range(study.scores.sizes, study.scores.trained)
    sizes = sorted({study.scores.trained, study.scores.sizes[inside[-1]], study.scores.sizes[-1]})
    with ExitStack() as stack:
        bench = OpenModels(stack, [each for each in models if each.candidate.name in names], setup.images, sizes)
        exhibits = [_exhibit(study, setup, bench, image, shown, sizes) for image in _typical(study, setup, names)]
        worst = {
            each.name: [
                _exhibit(study, setup, bench, image, [each], [study.scores.trained])
                for image, _ in hardest(study.scores, each.name, HARDEST)
            ]
            for each in shown
        }
    return Gallery(_there(exhibits), {name: _there(found) for name, found in worst.items()})


def _there(exhibits: Sequence[Exhibit | None]) -> tuple[Exhibit, ...]:
    return tuple(exhibit for exhibit in exhibits if exhibit is not None)


def _typical(study: Study, setup: StudySetup, names: set[str]) -> list[str]:
    """Of each kind of image the one of median difficulty at the training size; of a single kind, its quantiles."""
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
    bench: OpenModels,
    image: str,
    candidates: Sequence[Candidate],
    sizes: Sequence[Size],
) -> Exhibit | None:
    """An image with its ground truth and the candidates' outputs; None if it is no longer readable."""
    from dpt_deploy.report.exhibits import Exhibit, View

    scores, images = study.scores, setup.images
    try:
        sample, _ = images.read(image)
    except BadFileError:
        return None
    views = []
    for candidate in candidates:
        row, column = scores.candidates.index(candidate.name), scores.images.index(image)
        for size in sizes:
            nearness = images.nearness(bench.output(candidate.name, size, sample), sample)
            error = float(scores.values[row, scores.sizes.index(size), column])
            views.append(View(candidate.name, str(size), nearness[::_EVERY, ::_EVERY].astype(np.float32), error))
    truth = images.truth(sample)[::_EVERY, ::_EVERY].astype(np.float32)
    return Exhibit(image, images.kind(image), sample.image, truth, tuple(views))
