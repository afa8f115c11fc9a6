"""From a study file to trained weights: render, train, judge on scenes nobody trained on, save."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.environment import cpu_count, fingerprint
from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import checkpoint_path, resolve_weights
from dpt_deploy.jobs.train.config import TrainingConfig, read_training
from dpt_deploy.jobs.train.judge import DepthScore, Score, SegmentationScore, judge

if TYPE_CHECKING:
    from torch import nn

    from dpt_deploy.jobs.train.batches import SceneBatches
    from dpt_deploy.jobs.train.loop import History
    from dpt_deploy.model.dpt import DPT

_PENULTIMATE = "fusion.1"  # of the blocks of DPT.fusion, the finest of which runs last
_DEVICE = re.compile(r"cpu|cuda(:(?P<index>\d{1,4}))?")


@dataclass(frozen=True)
class Trained:
    """What training left behind: ``weights``, the ``record`` of how they came about, and their ``score``."""

    weights: Path
    record: Path
    history: History
    score: Score
    name: str
    plan: TrainingConfig

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "model": self.name,
            "plan": asdict(self.plan),
            "environment": fingerprint(),
            "seconds": self.history.seconds,
            "loss": self.history.curve,
            "validation": self.score.to_dict(),
        }


def train_model(
    plan: TrainingConfig,
    out: Path,
    *,
    cache: Path | None = None,
    device: str = "cpu",
) -> Trained:
    """Train the model of ``plan`` into ``out/<name>.safetensors``; an interrupted training goes on.

    ``<name>`` is the recipe's, with ``-seg<classes>`` for segmentation. Scenes are kept in ``cache`` (default:
    ``out``), where other trainings find them.

    Raises:
        UsageError: the recipe is unknown, the plan does not fit it, or there is no such device.
        IncompatibleError: there is no GPU, and one is asked for.
        BadFileError: ``out`` holds the state of another training.
        ResourceError: disk or memory.
        ParityError: training diverged.
    """
    with extra("export", purpose="training"):
        from dpt_deploy.jobs.train.loop import fit
        from dpt_deploy.model.checkpoints.load import save_native
    check_device(device)
    recipe = _recipe(plan)
    check_folder(out)
    ensure_folder(out)
    model, start = _network(plan, recipe)  # before minutes of rendering: a missing file is reported at once
    batches = _batches(plan, recipe, cache or out, device)
    name, schedule = _name(recipe), plan.schedule
    say(f"training {name}: {schedule.steps} steps of {schedule.batch} images")
    history = fit(
        model,
        model.encoder.parameters(),
        batches,
        _objective(model, plan),
        schedule,
        checkpoint=out / f"{name}.training",
        identity=_identity(plan, recipe, start),
        seed=plan.seed,
        device=device,
    )
    weights = out / f"{name}.safetensors"
    save_native(model.cpu().eval(), weights, half=True)
    say("judging on unseen scenes")
    score = judge(weights, recipe, plan.validation)
    trained = Trained(weights, out / f"training-{name}.json", history, score, name, plan)
    atomic_write_bytes(trained.record, (json.dumps(trained.to_dict(), indent=1) + "\n").encode())
    return trained


def _identity(plan: TrainingConfig, recipe: Recipe, start: str) -> dict[str, Any]:
    """The plan's, with what its names stand for: recipes and weights change, and keep their names."""
    names = {"backbone": recipe.name, **({"start": start} if start else {})}
    return plan.identity | names | {"model": recipe.model.to_dict(), "image": asdict(recipe.image)}


def _network(plan: TrainingConfig, recipe: Recipe) -> tuple[DPT, str]:
    """The network to train, and the hash of the weights that the plan starts from; patches are resized if need be."""
    if not plan.start:
        from dpt_deploy.model.initial import fresh_model

        return fresh_model(recipe.model, seed=plan.seed), ""
    from dpt_deploy.model.checkpoints.load import load_native, native_spec
    from dpt_deploy.model.resized import same_but_for_patches, with_patches

    source = resolve_weights(plan.start, recipe)
    path = None if source.is_random else checkpoint_path(source)
    saved = native_spec(path) if path else None
    resized = saved and saved.encoder.patch != recipe.model.encoder.patch and same_but_for_patches(saved, recipe.model)
    if path and saved and resized:
        model, anew = with_patches(load_native(path)[0], recipe.model, seed=plan.seed)
        say(f"{path.name} has patches of {saved.encoder.patch} pixels, resized; begin anew: {', '.join(anew)}")
        return model, sha256_of(path)
    model, source, _ = build_reference(recipe.model, source)
    return model.requires_grad_(True).train(), source.sha256


def check_device(name: str) -> None:
    """Raise :class:`UsageError` unless ``name`` is of a kind that trains, :class:`IncompatibleError` where none is."""
    import torch

    match = _DEVICE.fullmatch(name)
    if not match:
        raise UsageError(f"unknown device {name!r}", hint="known: cpu, cuda, cuda:1, …")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and int(match["index"] or 0) >= there:
        raise IncompatibleError(
            f"--device {name}: PyTorch finds {there or 'no'} GPU{'s' if there > 1 else ''}",
            hint="use --device cpu, or see `dpt-deploy doctor`",
        )


def _recipe(plan: TrainingConfig) -> Recipe:
    """The recipe of the plan's network; raises :class:`UsageError` for one that cannot be trained so."""
    if plan.task == "segmentation":
        from dpt_deploy.scenes.things import CLASSES

        recipe = load_recipe(plan.backbone, task="segmentation", classes=len(CLASSES))
    else:
        recipe = load_recipe(plan.backbone, task="depth")
    if recipe.model.metric:
        raise UsageError(
            f"{recipe.name} returns metres; what is trained here returns inverse depth up to scale and shift",
            hint="choose a backbone without [model.metric]",
        )
    if recipe.image.height != recipe.image.width:
        raise UsageError(
            f"{recipe.name} takes {recipe.image.height}x{recipe.image.width} pixels; training crops are square",
            hint="set [image] height and width to one number in a recipe of your own",
        )
    stride = recipe.model.stride
    if plan.schedule.coarse_steps and plan.schedule.coarse_side % stride:
        raise UsageError(
            f"schedule.coarse_side is {plan.schedule.coarse_side}; {recipe.name} takes multiples of {stride} pixels",
            hint=f"set it to {max(1, round(plan.schedule.coarse_side / stride)) * stride}",
        )
    return recipe


def _name(recipe: Recipe) -> str:
    """What the files are called: as exported models are, without the precision."""
    return f"{recipe.name}-seg{recipe.model.num_classes}" if recipe.model.task == "segmentation" else recipe.name


def _batches(plan: TrainingConfig, recipe: Recipe, cache: Path, device: str) -> SceneBatches:
    from dpt_deploy.jobs.train.batches import SceneBatches
    from dpt_deploy.jobs.train.rendered import LabelledScenes, RenderedScenes

    kind = LabelledScenes if plan.task == "segmentation" else RenderedScenes
    scenes = kind(cache, plan.scenes.count, plan.scenes.side, plan.scenes.first)
    scenes.render(workers=cpu_count(), device=device)
    image = recipe.image
    schedule = plan.schedule

    def side(step: int) -> int:
        return schedule.coarse_side if step < schedule.coarse_steps else image.height

    return SceneBatches(scenes, schedule.batch, side, plan.seed, image.mean, image.std, plan.augmentation)


def _objective(model: DPT, plan: TrainingConfig) -> nn.Module:
    from dpt_deploy.jobs.train.objectives import DepthObjective, SegmentationObjective

    if plan.task == "depth":
        return DepthObjective(alpha=plan.loss.alpha, trim=plan.loss.trim)
    spec = model.spec
    return SegmentationObjective(_PENULTIMATE, spec.fusion_channels, spec.num_classes, seed=plan.seed)


__all__ = ["DepthScore", "SegmentationScore", "Trained", "TrainingConfig", "read_training", "train_model"]
