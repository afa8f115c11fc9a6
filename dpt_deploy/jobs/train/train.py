"""Training of a model from its training file: render scenes, train, save, validate on unseen scenes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.artifact.store import sha256_of
from dpt_deploy.core.environment import cpu_count, fingerprint
from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import checkpoint_path, resolve_weights
from dpt_deploy.jobs.train.config import TrainingConfig

with extra("export", purpose="training"):
    import torch
    from torch import nn

    from dpt_deploy.jobs.train.batches import SceneBatches
    from dpt_deploy.jobs.train.loop import History, fit
    from dpt_deploy.jobs.train.objectives import DepthObjective, SegmentationObjective
    from dpt_deploy.jobs.train.rendered import LabelledScenes, RenderedScenes
    from dpt_deploy.jobs.train.validation import Score, validate
    from dpt_deploy.model.checkpoints.join import ENCODER
    from dpt_deploy.model.checkpoints.load import load_native, native_spec, save_native
    from dpt_deploy.model.dpt import DPT
    from dpt_deploy.model.initial import fresh_model
    from dpt_deploy.model.other_task import same_encoder_other_task, with_task
    from dpt_deploy.model.resized import same_but_for_patches, with_patches
    from dpt_deploy.scenes.things import CLASSES

_DEVICE = re.compile(r"cpu|cuda(:(?P<index>\d{1,4}))?")


@dataclass(frozen=True)
class Trained:
    """Result of a training: files of the ``weights`` and of the ``record``, and the ``score``."""

    weights: Path
    record: Path
    history: History
    score: Score
    name: str
    config: TrainingConfig

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "training",
            "model": self.name,
            "plan": asdict(self.config),
            "environment": fingerprint(),
            "seconds": self.history.seconds,
            "loss": self.history.curve,
            "validation": self.score.to_dict(),
        }


def train_model(
    config: TrainingConfig,
    out: Path | str,
    *,
    cache: Path | str | None = None,
    device: str = "cpu",
) -> Trained:
    """Train the model of ``config`` and write ``out/<name>.safetensors``; an interrupted training continues.

    ``<name>`` is the name of the recipe, with ``-seg<classes>`` for segmentation. Rendered scenes are kept in ``cache``
    (default: ``out``) and shared by trainings.

    Raises:
        UsageError: the recipe is unknown, does not suit the training, or the device is unknown.
        IncompatibleError: the requested GPU is missing.
        BadFileError: ``out`` holds the state of another training.
        ResourceError: disk or memory.
        ParityError: the training diverged.
    """
    out = Path(out)
    cache = None if cache is None else Path(cache)
    check_device(device)
    recipe = _recipe(config)
    check_folder(out)
    ensure_folder(out)
    model, start = _network(config, recipe)  # before minutes of rendering: a missing file is reported at once
    batches = _batches(config, recipe, cache or out, device)
    name, schedule = _name(recipe), config.schedule
    say(f"training {name}: {schedule.steps} steps of {schedule.batch} images")
    history = fit(
        model,
        model.encoder.parameters(),
        batches,
        _objective(model, config),
        schedule,
        checkpoint=out / f"{name}.training",
        identity=_identity(config, recipe, start),
        seed=config.seed,
        device=device,
    )
    weights, record = out / f"{name}.safetensors", out / f"training-{name}.json"
    with staged_files(out, weights.name) as stage:
        frozen = not schedule.encoder_rate  # rounded, it would not be the encoder that it came from
        save_native(model.cpu().eval(), stage / weights.name, half=True, exact=ENCODER if frozen else None)
        say("validating on unseen scenes")
        score = validate(stage / weights.name, recipe, config.validation)
        trained = Trained(weights, record, history, score, name, config)
        atomic_write_bytes(stage / record.name, (json.dumps(trained.to_dict(), indent=1) + "\n").encode())
        commit_files(FileSet(stage, [weights.name, record.name]))
    return trained


def _identity(config: TrainingConfig, recipe: Recipe, start: str) -> dict[str, Any]:
    """Identity of the training, including the content of recipe and weights, which may change under a name."""
    names = {"backbone": recipe.name, **({"start": start} if start else {})}
    image = asdict(recipe.image)
    del image["restore"]  # of maps, which a training does not make
    return config.identity | names | {"model": asdict(recipe.model), "image": image}


def _network(config: TrainingConfig, recipe: Recipe) -> tuple[DPT, str]:
    """The network to train and the hash of the weights it starts from. An encoder whose rate is 0 is frozen."""
    model, start = _started(config, recipe)
    if not config.schedule.encoder_rate:
        model.encoder.requires_grad_(False).eval()  # nor do running means move
    return model, start


def _started(config: TrainingConfig, recipe: Recipe) -> tuple[DPT, str]:
    """The network at its start; patches are resized, and the head of another task is replaced, if needed."""
    if not config.start:
        return fresh_model(recipe.model, seed=config.seed), ""
    source = resolve_weights(config.start, recipe)
    path = None if source.is_random else checkpoint_path(source)
    saved = native_spec(path) if path else None
    before, after = (spec and spec.encoder.tokens for spec in (saved, recipe.model))
    resized = saved and before != after and same_but_for_patches(saved, recipe.model)
    if path and before and resized:
        model, anew = with_patches(load_native(path)[0], recipe.model, seed=config.seed)
        say(f"{path.name} has patches of {before.patch} pixels, which are resized; initialised anew: {', '.join(anew)}")
        return model, sha256_of(path)
    if path and saved and same_encoder_other_task(saved, recipe.model):
        model, anew = with_task(load_native(path)[0], recipe.model, seed=config.seed)
        say(f"{path.name} was trained for {saved.task}; {len(anew)} tensors of its {_parts(anew)} begin anew")
        return model, sha256_of(path)
    model, source, _ = build_reference(recipe.model, source)
    return model.requires_grad_(True).train(), source.sha256


def _parts(keys: Sequence[str]) -> str:
    """The parts of a network that ``keys`` belong to."""
    return ", ".join(dict.fromkeys(key.partition(".")[0] for key in keys))


def check_device(name: str) -> None:
    """Raise :class:`UsageError` for an unknown device, :class:`IncompatibleError` for a missing one."""
    match = _DEVICE.fullmatch(name)
    if not match:
        raise UsageError(f"unknown device {name!r}", hint="known: cpu, cuda, cuda:1, …")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and int(match["index"] or 0) >= count:
        raise IncompatibleError(
            f"--device {name}: PyTorch finds {count or 'no'} GPU{'s' if count > 1 else ''}",
            hint="use --device cpu, or see `dpt-deploy doctor`",
        )


def _recipe(config: TrainingConfig) -> Recipe:
    """Load the recipe of the network; raises :class:`UsageError` if it cannot be trained here."""
    if config.task == "segmentation":
        recipe = load_recipe(config.backbone, task="segmentation", classes=len(CLASSES))
    else:
        recipe = load_recipe(config.backbone, task="depth")
    if recipe.model.joint:
        raise UsageError(f"{recipe.name!r} has joint heads, which have no loss here", hint="train them elsewhere")
    quantity = recipe.model.output_quantity
    if quantity not in (None, "inverse depth"):
        raise UsageError(
            f"{recipe.name} returns {quantity}; training here is for inverse depth up to scale and shift",
            hint="choose a backbone that returns inverse depth: without [model.metric] and with that quantity",
        )
    if recipe.image.height != recipe.image.width:
        raise UsageError(
            f"{recipe.name} takes {recipe.image.height}x{recipe.image.width} pixels; training crops are square",
            hint="set [image] height and width to the same number in a recipe of your own",
        )
    stride = recipe.model.stride
    if config.schedule.coarse_steps and config.schedule.coarse_side % stride:
        raise UsageError(
            f"schedule.coarse_side is {config.schedule.coarse_side}; {recipe.name} takes multiples of {stride} pixels",
            hint=f"set it to {max(1, round(config.schedule.coarse_side / stride)) * stride}",
        )
    if config.schedule.coarse_steps:
        recipe.model.check_size(Size(config.schedule.coarse_side, config.schedule.coarse_side))
    return recipe


def _name(recipe: Recipe) -> str:
    """Name of the files: that of exported models, without the precision."""
    return f"{recipe.name}-seg{recipe.model.num_classes}" if recipe.model.task == "segmentation" else recipe.name


def _batches(config: TrainingConfig, recipe: Recipe, cache: Path, device: str) -> SceneBatches:
    kind = LabelledScenes if config.task == "segmentation" else RenderedScenes
    scenes = kind(cache, config.scenes.count, config.scenes.side, config.scenes.first)
    scenes.render(workers=cpu_count(), device=device)
    image = recipe.image
    schedule = config.schedule

    def side(step: int) -> int:
        return schedule.coarse_side if step < schedule.coarse_steps else image.height

    return SceneBatches(scenes, schedule.batch, side, config.seed, image.mean, image.std, config.augmentation)


def _objective(model: DPT, config: TrainingConfig) -> nn.Module:
    if config.task == "depth":
        return DepthObjective(model.landmarks.last, alpha=config.loss.alpha, trim=config.loss.trim)
    spec = model.spec
    return SegmentationObjective(model.landmarks.penultimate, spec.fusion_channels, spec.num_classes, seed=config.seed)
