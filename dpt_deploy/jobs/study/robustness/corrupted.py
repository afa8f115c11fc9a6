"""A study of corruptions: check the request, corrupt and score, analyse."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.core.disk.private import own_folder
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder, write_errors
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import DEPTH_TASKS
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.corruptions.registry import (
    CONTROL,
    CORRUPTIONS,
    VERSION,
    check_severities,
    corrupt_sample,
    find_corruptions,
)
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.study import images as study_images
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.robustness.outcome import RobustnessStudy, control_result, fp32_pairs
from dpt_deploy.jobs.study.robustness.scoring import ConditionScoring, Damage, subjects_of
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition, analyse
from dpt_deploy.jobs.study.study import JOURNAL, MODELS, StudyRequest
from dpt_deploy.runtime.registry import find_runtime

KIND = "corruption-study"
RECORD = "corruptions.json"
SIDE = 384  # pixels of the rendered scenes of these studies: lengths of corruptions follow from it


@dataclass(frozen=True)
class CorruptionRequest:
    """Request of a study of corruptions: models, data and precisions as in ``study``, corruptions and severities.

    Without sizes in ``study``, the models run at their training size. ``study.control`` None leaves out the control.
    """

    study: StudyRequest
    corruptions: tuple[str, ...]
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class CorruptionSetup:
    """A checked request with its images, sizes and conditions (the first is clean)."""

    request: CorruptionRequest
    images: Images
    sizes: tuple[Size, ...]
    conditions: tuple[Condition, ...]


def prepare_corruptions(request: CorruptionRequest) -> CorruptionSetup:
    """Check a request before anything is exported, rendered or written.

    Raises:
        UsageError: a corruption or severity is unknown, or models, sizes, runtimes and data do not fit together.
        BadFileError: an artefact or the folder of the data set is missing or damaged.
        MissingExtraError: a module that corrupts images or runs models is not installed.
    """
    study = request.study
    names = [each.name for each in find_corruptions(request.corruptions)]
    severities = check_severities(request.severities)
    if study.reference:
        raise UsageError(
            "the paper has no numbers for corrupted images", hint="leave out --reference, or leave out --corruptions"
        )
    for runtime in study.runtimes:
        find_runtime(runtime).load()
    trained = study_models.trained_size(study.models)
    study_models.check_precisions(study.models, study.precisions)
    study_models.check_approximations(study.models, study.approximations)
    sizes = tuple(sorted(set(study.sizes or (trained,))))
    study_models.check_sizes(study.models, sizes)
    images = study_images.data_set(study.data, study.limit) if study.data else _scenes(study)
    for name in study.models:
        images.check(study_models.described(name)[0])
    control = [Condition(CONTROL.name, each, control=True) for each in severities] if study.control else []
    damaged = [Condition(name, severity) for name in names for severity in severities]
    return CorruptionSetup(request, images, sizes, (CLEAN, *damaged, *control))


def run_corruptions(setup: CorruptionSetup, out: Path) -> tuple[RobustnessStudy, list[CandidateModel]]:
    """Add missing scores to ``out`` and analyse all; return the study and its models.

    Raises:
        ParityError: a model returned NaN or infinity.
        BadFileError: fewer than two images could be used, or a model is unusable.
        ResourceError: disk or memory.
    """
    request = setup.request.study
    models = exported_models(request, setup.sizes, out)
    subjects = subjects_of(models, setup.sizes)
    journal = Journal(out / JOURNAL)
    key = f"corruptions {VERSION}, seed {request.seed}"
    scoring = ConditionScoring(subjects, setup.images, setup.conditions, damage_of(request.seed), key, journal)
    with journal:
        failures = scoring.run()
    left_out = {image for image, _ in failures}
    scores = scoring.collected("dee", left_out)
    candidates = {each.name: (each.model.candidate, each.size) for each in subjects}
    analysis = analyse(scores, fp32_pairs(candidates), seed=request.seed)
    study = RobustnessStudy(
        kind=KIND,
        data=setup.images.data,
        candidates=candidates,
        scores=scores,
        analysis=analysis,
        control=control_result(scores, analysis, CONTROL.name) if request.control else None,
        failures=failures,
        environment=fingerprint(),
        seed=request.seed,
        more={name: scoring.collected(name, left_out) for name in ("abs_rel", "delta1")},
        checksums={str(each): scoring.pictures(each, scores.images) for each in setup.conditions},
        about={"corruptions": VERSION, "error": "DEE = (AbsRel + 1 - delta1) / 2"},
    )
    return study, models


def exported_models(
    request: StudyRequest, sizes: Sequence[Size], out: Path, scored: Sequence[str] = DEPTH_TASKS
) -> list[CandidateModel]:
    """Export the candidates of a request into ``out``, if needed, and check that they take ``sizes``.

    ``scored`` names the tasks whose output will be scored.
    """
    check_folder(out)
    ensure_folder(out)
    with write_errors(out / MODELS):
        own_folder(out / MODELS)
    models = study_models.candidates(
        request.models,
        request.weights,
        request.runtimes,
        request.precisions,
        out / MODELS,
        request.approximations,
        scored,
    )
    for each in models:
        for size in sizes:
            check_request(each.artifact.sidecar, size)
    with suppress(OSError):  # not empty: models were exported into it
        (out / MODELS).rmdir()
    say(f"{len(models)} models at {', '.join(map(str, sizes))}")
    return models


def damage_of(seed: int) -> Damage:
    """Return the function that corrupts a sample; it uses the ground truth, never a prediction.

    Where pixels move, the ground truth of the result has moved with them.
    """
    known = {**CORRUPTIONS, CONTROL.name: CONTROL}

    def damage(sample: Sample, condition: Condition) -> Sample:
        if condition == CLEAN:
            return sample
        return corrupt_sample(sample, known[condition.name], int(condition.level), seed=seed)

    return damage


def _scenes(study: StudyRequest) -> Images:
    scenes = load_attribute("dpt_deploy.jobs.study.scene_images:scenes", which="export", purpose="rendering scenes")
    found: Images = scenes(min(study.scenes, study.limit or study.scenes), study.seed, SIDE)
    return found
