"""An attack and its measurement: attack one's own model in PyTorch, then score the exported files on the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.datasets.base import Sample
from dpt_deploy.imaging.files import write_picture
from dpt_deploy.jobs.attack.pictures import pictures
from dpt_deploy.jobs.attack.request import NOISE, AttackRequest, Method
from dpt_deploy.jobs.attack.strength import check_strengths
from dpt_deploy.jobs.attack.tasks import attackable, attacked_task, place_of
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.robustness.corrupted import exported_models
from dpt_deploy.jobs.study.robustness.findings import OTHER_TASKS
from dpt_deploy.jobs.study.robustness.outcome import ControlResult, RobustnessStudy, fp32_pairs
from dpt_deploy.jobs.study.robustness.scoring import ConditionScoring, Damage, subjects_of
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition, ConditionScores, analyse, difference
from dpt_deploy.jobs.study.study import JOURNAL, StudyRequest
from dpt_deploy.runtime.registry import find_runtime

with extra("export", purpose="attacking a model"):
    from torch import Tensor

    from dpt_deploy.jobs.attack.methods import AttackSteps, attacked
    from dpt_deploy.jobs.attack.objectives import WhiteBox, depth_loss, label_loss
    from dpt_deploy.jobs.common.reference import reference_of

KIND = "attack-study"
RECORD = "attack.json"
IMAGES = "images"
VERSION = 1  # increased when an attacked image changes


@dataclass(frozen=True)
class AttackSetup:
    """A checked request with its task, its images, the size of the network, and the conditions (the first is clean)."""

    request: AttackRequest
    task: ModelTask
    images: Images
    size: Size
    conditions: tuple[Condition, ...]


def prepare_attack(request: AttackRequest) -> AttackSetup:
    """Check a request before anything is exported, rendered or written.

    Raises:
        UsageError: a method, strength, task or target is unusable, or the model returns something else than the images
            have.
        BadFileError: an artefact or the folder of the data set is missing or damaged.
        MissingExtraError: PyTorch or a module that runs models is not installed.
    """
    known = [each for each in get_args(Method) if each != NOISE]
    for method in request.methods:
        if method not in known:
            raise UsageError(
                f"method {method!r} is unknown; expected one or more of {', '.join(known)}",
                hint="for example --method pgd",
            )
    levels = [each for each in check_strengths(request.levels) if each]
    if not levels or not request.methods:
        raise UsageError("nothing to do: every strength is 0", hint="for example --eps 2/255,8/255")
    if request.steps < 1:
        raise UsageError(f"{request.steps} steps; expected at least one", hint="for example --steps 10")
    for runtime in request.runtimes:
        find_runtime(runtime).load()
    study_models.check_precisions((request.model,), request.precisions)
    study_models.check_approximations((request.model,), request.approximations)
    model, image = study_models.described(request.model)
    task = attacked_task(request.task, model)
    size = request.size or Size(image.height, image.width)
    study_models.check_sizes((request.model,), (size,))
    images = pictures(request, model, task)
    attacks = [Condition(method, level) for method in request.methods for level in levels]
    blind = [Condition(NOISE, level, control=True) for level in levels]
    return AttackSetup(request, task, images, size, (CLEAN, *attacks, *blind))


def run_attack(setup: AttackSetup, out: Path, *, save: bool = False) -> tuple[RobustnessStudy, list[CandidateModel]]:
    """Attack, add missing scores to ``out`` and analyse all; return the study and its models.

    ``save`` writes the images that are attacked in this run; those that were scored before are not attacked again.

    Raises:
        ParityError: a model returned NaN or infinity.
        BadFileError: fewer than two images could be used, or a model is unusable.
        ResourceError: disk or memory.
    """
    request = setup.request
    models = exported_models(_study(request), (setup.size,), out, setup.images.tasks)
    subjects = subjects_of(models, (setup.size,))
    sidecar = models[0].artifact.sidecar
    folder = out / IMAGES if save else None
    journal = Journal(out / JOURNAL)
    damage = damage_of(setup, sidecar, folder)
    scoring = ConditionScoring(subjects, setup.images, setup.conditions, damage, _key(setup, sidecar), journal)
    with journal:
        failures = scoring.run()
    left_out = {image for image, _ in failures}
    segmentation = setup.task == "segmentation"
    scores = scoring.collected("error" if segmentation else "dee", left_out)
    aim = scoring.collected("target", left_out) if request.target else scores
    candidates = {each.name: (each.model.candidate, each.size) for each in subjects}
    more = [*(() if segmentation else ("abs_rel", "delta1")), *(("target",) if request.target else ())]
    study = RobustnessStudy(
        kind=KIND,
        data=setup.images.data,
        candidates=candidates,
        scores=scores,
        analysis=analyse(scores, fp32_pairs(candidates), seed=request.seed),
        control=blind_control(aim, request.seed, target=bool(request.target)),
        failures=failures,
        environment=fingerprint(),
        seed=request.seed,
        more={name: scoring.collected(name, left_out) for name in more},
        checksums={str(each): scoring.pictures(each, scores.images) for each in setup.conditions},
        about=_about(setup, sidecar),
    )
    return study, models


def damage_of(setup: AttackSetup, sidecar: Sidecar, folder: Path | None = None) -> Damage:
    """Return the function that attacks the image of a sample, with the weights behind ``sidecar`` in PyTorch."""
    request = setup.request
    box = white_box(setup, sidecar)
    how = AttackSteps(request.steps, request.random_start, request.seed)

    def damage(sample: Sample, condition: Condition) -> Sample:
        if condition == CLEAN:
            return sample
        loss = loss_of(box, sample, request.target, metric=sidecar.model.output_quantity == "metres")
        found = attacked(sample.image, loss, condition.name, condition.level, how, name=sample.name)
        if folder:
            ensure_folder(folder)
            stem = sample.name.replace("/", "-")  # names of data sets may be paths
            write_picture(folder / f"{stem}-{condition.name}-{condition.level:g}.png", found)
        return replace(sample, image=found)

    return damage


def white_box(setup: AttackSetup, sidecar: Sidecar) -> WhiteBox:
    """Return the network behind ``sidecar`` in PyTorch, whose output is that of the task of ``setup``."""
    rule = setup.images.rule(sidecar.image, setup.size)
    output = place_of(sidecar.model, setup.images.tasks)
    return WhiteBox(reference_of(sidecar), rule, sidecar.model.stride, output=output)


def loss_of(box: WhiteBox, sample: Sample, target: str | None, *, metric: bool) -> Callable[[Tensor], Tensor]:
    """The loss that an attack raises: the error against the truth, or minus that against the target."""
    if sample.labels is not None:
        return lambda image: label_loss(box(image), sample, target=int(target) if target else None)
    return lambda image: depth_loss(box(image), sample, metric=metric, flip=bool(target))


def blind_control(scores: ConditionScores, seed: int, *, target: bool = False) -> ControlResult:
    """Error under the last method at its highest level minus that under noise of equal size.

    With ``target``, ``scores`` are distances to it, and the difference is the other way round.
    """
    strongest = max(scores.conditions[index].level for index in scores.damaged)
    method = [each for each in scores.conditions if each.level == strongest and not each.control][-1]
    noise = next(each for each in scores.conditions if (each.name, each.level) == (NOISE, strongest))
    pair = (noise, method) if target else (method, noise)
    found = difference(scores, *pair, seed=seed)
    return ControlResult(f"{method}, compared with {noise},", found, "target" if target else "error")


def _study(request: AttackRequest) -> StudyRequest:
    return StudyRequest(
        models=(request.model,),
        weights=request.weights,
        runtimes=request.runtimes,
        precisions=request.precisions,
        approximations=request.approximations,
    )


def _key(setup: AttackSetup, sidecar: Sidecar) -> str:
    """Everything that an attacked image depends on besides image, method and strength."""
    request = setup.request
    parts: Sequence[object] = (
        f"attack {VERSION} on {sidecar.model.name} with {sidecar.weights.sha256 or sidecar.weights}",
        f"{setup.task} at {setup.size}",
        f"{request.steps} steps",
        "random start" if request.random_start else "start at the image",
        f"target {request.target}",
        f"seed {request.seed}",
    )
    return ", ".join(map(str, parts))


def _about(setup: AttackSetup, sidecar: Sidecar) -> dict[str, str]:
    request, others = setup.request, [each for each in attackable(sidecar.model) if each != setup.task]
    error = "share of pixels with another class" if setup.task == "segmentation" else "DEE = (AbsRel + 1 - delta1) / 2"
    return {
        "task": setup.task,
        **({OTHER_TASKS: " and ".join(others)} if others else {}),
        "error": error,
        "white box": f"{sidecar.model.name} in PyTorch, FP32, weights {sidecar.weights}",
        "target": request.target or "none: the error against the truth is raised",
        "steps": f"{request.steps}{', PGD from a random start' if request.random_start else ''}",
        "levels": "largest change of a value of a byte, in levels of 255",
    }
