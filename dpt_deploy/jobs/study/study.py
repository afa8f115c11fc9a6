"""The paper's Figure 4 on exported models: check the request, score, analyse."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpt_deploy.core.disk.private import own_folder
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder, resolved, write_errors
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.paper import paper_table, paper_value
from dpt_deploy.datasets.protocols import METRICS
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.study import images as study_images
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.jobs.study.agreement import (
    Recorded,
    check_candidates,
    check_comparable,
    read_recorded,
)
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.study.models import Approximated, CandidateModel, Defect
from dpt_deploy.jobs.study.outcome import RECORD, Candidate, PublishedNumber, Study, analysed, originals
from dpt_deploy.jobs.study.prices import Price, price
from dpt_deploy.jobs.study.resolution import Scores, default_sizes
from dpt_deploy.jobs.study.scoring import Scoring
from dpt_deploy.measure.bootstrap import mean_of
from dpt_deploy.runtime.registry import find_runtime

JOURNAL = "scores.jsonl"
MODELS = "models"
DEFAULT_MODELS = ("tiny", "tiny-vit", "tiny-conv")
DEFAULT_SCENES = 48


@dataclass(frozen=True)
class StudyRequest:
    """Request of a study: models by name, recipe or file, sizes (none: the default ratios), and data.

    ``approximations`` are approximate rewrites, by name and numbers; each is one more network for every model by name.
    ``limit`` bounds the number of images. ``reference`` adds the paper's number. ``control`` adds a model with a
    planted defect.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    weights: str | None = None
    sizes: tuple[Size, ...] = ()
    runtimes: tuple[str, ...] = ("ort",)
    precisions: tuple[str, ...] = (FP32,)
    approximations: tuple[Approximated, ...] = ()
    scenes: int = DEFAULT_SCENES
    seed: int = 0
    data: str | None = None
    limit: int | None = None
    reference: bool = False
    control: Defect | None = "tiled"


@dataclass(frozen=True)
class StudySetup:
    """A checked request with its images, sizes and training size (one of the sizes)."""

    request: StudyRequest
    images: Images
    sizes: tuple[Size, ...]
    trained: Size


def prepare_study(request: StudyRequest) -> StudySetup:
    """Check a request before anything is exported, rendered or written.

    Raises:
        UsageError: models, sizes, runtimes and data do not fit together.
        BadFileError: an artefact or the folder of the data set is missing or damaged.
        MissingExtraError: a module that reads the data or runs models is not installed.
    """
    for runtime in request.runtimes:
        find_runtime(runtime).load()
    trained = study_models.trained_size(request.models)
    study_models.check_precisions(request.models, request.precisions)
    study_models.check_approximations(request.models, request.approximations)
    networks = [study_models.described(name)[0] for name in request.models]
    for network in networks:
        if network.only_size:
            raise UsageError(
                f"{network.name!r} takes images of {network.only_size} pixels only; a study compares sizes",
                hint="leave it out",
            )
    stride = max(network.stride for network in networks)
    sizes = tuple(sorted({trained, *(request.sizes or default_sizes(trained, stride))}))
    if len(sizes) < 2:
        raise UsageError(f"--res has only the training size {trained}", hint="add a size to compare it with")
    study_models.check_sizes(request.models, sizes)
    images = _images(request)
    for network in networks:
        images.check(network)
    return StudySetup(request, images, sizes, trained)


def recorded_study(path: Path, setup: StudySetup, out: Path) -> Recorded:
    """Read the study in ``path`` that the study of ``setup``, written to ``out``, is compared with.

    Raises:
        BadFileError: the file is not a study.
        IncompatibleError: it was measured in another way, or has none of these sizes or models.
        UsageError: the new study would overwrite it.
    """
    if resolved(out / RECORD) == resolved(path):
        raise UsageError(f"the new study would overwrite {path}", hint="give another folder with -o")
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


def run_study(
    setup: StudySetup,
    out: Path | str,
    *,
    baseline: Recorded | None = None,
) -> tuple[Study, list[CandidateModel]]:
    """Add missing scores to ``out`` and analyse all; return the study and its models.

    An unusable image is reported and left out for all candidates. With a ``baseline``, the study fails before scoring
    if it cannot be compared.

    Raises:
        IncompatibleError: the baseline has none of these models on these runtimes at these precisions.
        ParityError: a model returned NaN or infinity.
        BadFileError: fewer than two images could be used, or a model is unusable.
        ResourceError: disk or memory.
    """
    out = Path(out)
    check_folder(out)
    ensure_folder(out)
    with write_errors(out / MODELS):
        own_folder(out / MODELS)
    models, original, no_control = _models(setup, out / MODELS)
    with suppress(OSError):  # not empty: models were exported into it
        (out / MODELS).rmdir()
    candidates = tuple(each.candidate for each in models)
    if baseline:
        check_candidates(baseline, candidates)
    journal = Journal(out / JOURNAL)
    if journal.ignored:
        say(f"{journal.ignored} line(s) of {out / JOURNAL} are incomplete and are scored again")
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
        scenes = load_attribute("dpt_deploy.jobs.study.scene_images:scenes", which="export", purpose="rendering scenes")
        found: Images = scenes(min(request.scenes, request.limit or request.scenes), request.seed)
        return found
    images = study_images.data_set(request.data, request.limit)
    if request.reference:
        paper_table(images.data.name)
    return images


def _models(setup: StudySetup, folder: Path) -> tuple[list[CandidateModel], str | None, str]:
    """The models and, last, the control; the name of its original; the reason if there is no control."""
    request = setup.request
    models = study_models.candidates(
        request.models, request.weights, request.runtimes, request.precisions, folder, request.approximations
    )
    for each in models:
        for size in setup.sizes:
            check_request(each.artifact.sidecar, size)
    if not request.control:
        return models, None, "it was not requested"
    able = [each for each in models if study_models.can_be_control(each)]
    if not able:
        return models, None, "no model has positions to spoil, in fp32 and with its weights file"
    # Prefer a plain transformer to a hybrid, whose convolutional stages have no positions.
    original = min(able, key=lambda each: bool(each.artifact.sidecar.model.encoder.stages))
    return [*models, study_models.control_of(original, request.control, folder)], original.candidate.name, ""


def _prices(scoring: Scoring, scores: Scores, candidates: Sequence[Candidate], seed: int) -> tuple[Price, ...]:
    """Compare every other precision with FP32."""
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
) -> tuple[PublishedNumber, ...]:
    """The paper's numbers for these models, and the same metric measured here at the paper's size."""
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
        found.append(PublishedNumber(f"Table {printed.table}", candidate.name, metric.title, printed.value, ours, part))
    return tuple(found)
