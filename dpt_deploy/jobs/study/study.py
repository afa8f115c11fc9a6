"""Figure 4 on exported models: what is asked is checked, then scored, then analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.paper import paper_table, paper_value
from dpt_deploy.datasets.protocols import METRICS
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.study import images as study_images
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.jobs.study import scene_images
from dpt_deploy.jobs.study.agreement import (
    Agreement,
    Recorded,
    agreement,
    check_comparable,
    check_candidates,
    read_recorded,
)
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.study.models import CandidateModel, Defect
from dpt_deploy.jobs.study.outcome import Reference, Study, Candidate, analysed, originals
from dpt_deploy.jobs.study.prices import Price, price
from dpt_deploy.jobs.study.resolution import Scores, default_sizes
from dpt_deploy.jobs.study.scoring import Scoring
from dpt_deploy.measure.bootstrap import mean_of
from dpt_deploy.runtime import registry

JOURNAL = "scores.jsonl"
RECORD = "study.json"
MODELS = "models"
DEFAULT_MODELS = ("tiny", "tiny-vit", "tiny-conv")
DEFAULT_SCENES = 48


@dataclass(frozen=True)
class StudyRequest:
    """What is asked: models by name, recipe or file; sizes (none: the default ratios); and on what.

    ``limit`` bounds the number of images; ``reference`` asks for the paper's number beside ours; ``control`` for a
    model with a planted defect beside its original.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    weights: str | None = None
    sizes: tuple[Size, ...] = ()
    runtimes: tuple[str, ...] = ("ort",)
    precisions: tuple[str, ...] = (FP32,)
    scenes: int = DEFAULT_SCENES
    seed: int = 0
    data: str | None = None
    limit: int | None = None
    reference: bool = False
    control: Defect | None = "tiled"


@dataclass(frozen=True)
class StudySetup:
    """A request that was found feasible: the images, the sizes, and the one among them that was trained at."""

    request: StudyRequest
    images: Images
    sizes: tuple[Size, ...]
    trained: Size


def prepare_study(request: StudyRequest) -> StudySetup:
    """Check everything that can be checked before anything is exported, rendered or written.

    Raises:
        UsageError: models, sizes, runtimes or data that do not go together.
        BadFileError: an artefact or the data set's folder is missing or damaged.
        MissingExtraError: what reads the data, renders scenes or runs models is not installed.
    """
    for runtime in request.runtimes:
        registry.runner_class(runtime)
    trained = study_models.trained_size(request.models)
    study_models.check_precisions(request.models, request.precisions)
    stride = max(study_models.described(name)[0].stride for name in request.models)
    sizes = tuple(sorted({trained, *(request.sizes or default_sizes(trained, stride))}))
    if len(sizes) < 2:
        raise UsageError(f"--res names the training size {trained} only", hint="name a size to compare it with")
    study_models.check_sizes(request.models, sizes)
    images = _images(request)
    for name in request.models:
        images.check(study_models.described(name)[0])
    return StudySetup(request, images, sizes, trained)


def recorded_study(path: Path, setup: StudySetup, out: Path) -> Recorded:
    """The study in ``path``, to compare that of ``setup``, which is written to ``out``, with.

    Raises:
        BadFileError: it is none.
        IncompatibleError: it was measured otherwise, or has none of these sizes or models.
        UsageError: it would be written over.
    """
    if (out / RECORD).resolve() == path.resolve():
        raise UsageError(f"{path} would be written over before it is compared with", hint="give another folder with -o")
    recorded, data = read_recorded(path), setup.images.data
    check_comparable(
        recorded,
        data=data.name,
        protocol=data.protocol,
        trained=str(setup.trained),
        sizes=[str(size) for size in setup.sizes],
        models=[study_models.described(name)[0].name for name in setup.request.models],
    )
    return recorded


def compared(found: Study, recorded: Recorded) -> Agreement:
    """A study beside a recorded one; raises :class:`IncompatibleError` where they have no candidate in common."""
    return agreement(found, recorded)


def run_study(
    setup: StudySetup,
    out: Path,
    *,
    baseline: Recorded | None = None,
) -> tuple[Study, list[CandidateModel]]:
    """Score what ``out`` has no score of yet, and analyse; return the study and the models behind it.

    An image that cannot be used is named, counted and left out for everybody. With a ``baseline`` nothing is scored
    that could not be compared with it.

    Raises:
        IncompatibleError: the baseline has none of these models on these runtimes at these precisions.
        ParityError: a model returned NaN or infinity.
        BadFileError: fewer than two images could be used, or a model is unusable.
        ResourceError: disk or memory.
    """
    check_folder(out)
    ensure_folder(out)
    models, original, no_control = _models(setup, out / MODELS)
    candidates = tuple(each.candidate for each in models)
    if baseline:
        check_candidates(baseline, candidates)
    journal = Journal(out / JOURNAL)
    if journal.ignored:
        say(f"{journal.ignored} line(s) of {out / JOURNAL} are no scores; what they stood for is scored again")
    scoring = Scoring(models, setup.images, setup.sizes, journal)
    with journal:
        failures = scoring.run()
    scores = scoring.collected(setup.trained, {image for image, _ in failures})
    study = Study(
        data=setup.images.data,
        candidates=candidates,
        scores=scores,
        analysis=analysed(candidates, scores, original, setup.request.seed),
        failures=tuple(failures),
        no_control=no_control,
        environment=fingerprint(),
        seed=setup.request.seed,
        references=_references(setup, scoring, scores, candidates) if setup.request.reference else (),
        prices=_prices(scoring, scores, candidates, setup.request.seed),
    )
    return study, models


def _images(request: StudyRequest) -> Images:
    if not request.data:
        if request.reference:
            raise UsageError(
                "--reference paper needs --data: the paper has no numbers for rendered scenes",
                hint="add --data NAME:DIR",
            )
        return scene_images.scenes(min(request.scenes, request.limit or request.scenes), request.seed)
    images = study_images.data_set(request.data, request.limit)
    if request.reference:
        paper_table(images.data.name)
    return images


def _models(setup: StudySetup, folder: Path) -> tuple[list[CandidateModel], str | None, str]:
    """The models and, last, their control; the name of its original; and why there is none, if there is none."""
    asked = setup.request
    models = study_models.candidates(asked.models, asked.weights, asked.runtimes, asked.precisions, folder)
    for each in models:
        for size in setup.sizes:
            check_request(each.artifact.sidecar, size)
    if not asked.control:
        return models, None, "it was not asked for"
    able = [each for each in models if study_models.can_be_control(each)]
    if not able:
        return models, None, "none of the models has positions to spoil, in fp32 and with its weights at hand"
    # A plain transformer before a hybrid, whose convolutional stages know no positions.
    original = min(able, key=lambda each: each.artifact.sidecar.model.encoder.kind != "vit")
    return [*models, study_models.control_of(original, asked.control, folder)], original.candidate.name, ""


def _prices(scoring: Scoring, scores: Scores, candidates: Sequence[Candidate], seed: int) -> tuple[Price, ...]:
    """Every other precision beside FP32."""
    pairs = originals(candidates)
    if not pairs:
        return ()
    delta1 = np.array(
        [
            [scoring.metric("delta1", candidate, size, scores.images) for size in scores.sizes]
            for candidate in scores.candidates
        ]
    )
    return tuple(price(scores, delta1, *pair, seed=seed) for pair in pairs)


def _references(
    setup: StudySetup, scoring: Scoring, scores: Scores, candidates: Sequence[Candidate]
) -> tuple[Reference, ...]:
    """The paper's numbers for these models, each beside the same measure here, at the size the paper measured at."""
    protocol, found = setup.images.protocol, []
    if protocol.size not in scores.sizes:
        return ()
    for candidate in (each for each in candidates if not each.control):
        printed = paper_value(setup.images.data.name, candidate.model, protocol.metric)
        if printed is None:
            continue
        values = scoring.metric(protocol.metric, candidate.name, protocol.size, scores.images)
        metric = METRICS[protocol.metric]
        ours = mean_of(values * (100 if metric.percent else 1), seed=setup.request.seed)
        part = f"{len(scores.images)} of its {protocol.images} images"
        found.append(Reference(f"Table {printed.table}", candidate.name, metric.title, printed.value, ours, part))
    return tuple(found)
