"""What a training is to do: study files (TOML) as checked, frozen data. No torch is needed to read one."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import Task
from dpt_deploy.scenes.seeds import TRAINING, VALIDATION

_LARGEST = 2**63  # what a seed must stay below


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Rates are of the encoder (``encoder_rate``; the paper's is a tenth of the decoder's, because its encoders are
    pre-trained) and of everything else (``decoder_rate``). Over ``warm_up`` steps they rise, then they fall: as a half
    ``cosine`` to 0, or by the ``polynomial`` ``(1 - step/steps)^0.9`` of DPT §4.2. ``adam`` is AdamW (the paper's Adam
    where ``weight_decay`` is 0), ``sgd`` has the paper's momentum of 0.9. ``clip`` bounds the norm of the gradient.
    The first ``coarse_steps`` are taken on images of ``coarse_side`` pixels a side, of which more are seen in the same
    time; the rest at the network's own resolution.
    """

    steps: int
    batch: int
    encoder_rate: float
    decoder_rate: float
    optimizer: Literal["adam", "sgd"] = "adam"
    decay: Literal["cosine", "polynomial"] = "cosine"
    warm_up: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    coarse_steps: int = 0
    coarse_side: int = 0

    def factor(self, step: int) -> float:
        """What the rates are multiplied by at ``step``."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.5 * (1 + math.cos(math.pi * share)) if self.decay == "cosine" else (1 - share) ** 0.9


@dataclass(frozen=True)
class Loss:
    """Of depth (DPT §4.1): ``trim`` is the share of the largest residuals that does not count, ``alpha`` the weight of
    gradient matching. The paper trims a fifth because what it learns from has wrong pixels; rendered depth has none."""

    trim: float = 0.2
    alpha: float = 0.5


@dataclass(frozen=True)
class Augmentation:
    """``smallest_crop`` is the least side of the random square crop, as a share of the scene's; ``colour`` the
    strength of the random exposure, contrast, white balance and saturation (0 for none)."""

    smallest_crop: float = 0.875
    colour: float = 0.25


@dataclass(frozen=True)
class SceneSet:
    """How many scenes are rendered for training, at which size in pixels, from which seed on."""

    count: int
    side: int
    first: int = 0


@dataclass(frozen=True)
class Validation:
    """How many scenes judge the result, from which number on (within :data:`~dpt_deploy.scenes.seeds.VALIDATION`)."""

    scenes: int = 64
    first: int = VALIDATION.start


@dataclass(frozen=True)
class TrainingConfig:
    """A study file (``benchmarks/trainings/*.toml``): which network of the zoo learns what from which scenes, and how.

    ``backbone`` is a name of the zoo, or a recipe's file, seen from the study's. ``start`` names weights to go on from,
    as ``--weights`` does (a file, or those that ship under a name); without it training is from scratch.
    """

    backbone: str
    seed: int
    scenes: SceneSet
    schedule: Schedule
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    validation: Validation = Validation()
    task: Task = "depth"
    start: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two trainings of one network the same one: everything but how the result is judged.

        What was added later is in it only where it differs from its default.
        """
        added = {"task": "depth", "start": "", "loss": asdict(Loss())}
        found = {key: value for key, value in asdict(self).items() if key != "validation"}
        if not self.schedule.coarse_steps:
            del found["schedule"]["coarse_steps"], found["schedule"]["coarse_side"]
        return {key: value for key, value in found.items() if added.get(key) != value}


def read_training(path: Path) -> TrainingConfig:
    """The plan in a TOML file; raises :class:`BadFileError` where it is missing, no TOML, or a key is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        _refuse_unknown(TrainingConfig, table, "")
        plan: TrainingConfig = decode(TrainingConfig, table)
        _check(plan)
        if plan.backbone.endswith(".toml"):
            plan = replace(plan, backbone=str(path.parent / plan.backbone))
    except OSError as exc:
        raise BadFileError(f"study {path} cannot be read: {exc.strerror}", hint="see benchmarks/trainings/") from exc
    except ValueError as exc:
        raise BadFileError(f"study {path}: {exc}", hint="see benchmarks/trainings/ for examples") from exc
    return plan


def _refuse_unknown(kind: Any, table: dict[str, Any], where: str) -> None:
    """A misspelt key must not pass for a default."""
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"unknown key {where}{key!r}; known: {', '.join(known)}")
        if is_dataclass(hints[key]) and isinstance(value, dict):
            _refuse_unknown(hints[key], value, f"{where}{key}.")


def _check(plan: TrainingConfig) -> None:
    for key, value, fine, expected in _limits(plan):
        if not fine:
            raise ValueError(f"{key} is {value}; expected {expected}")
        if not value < _LARGEST:
            raise ValueError(f"{key} is {value}; expected a smaller number")


def _limits(plan: TrainingConfig) -> Iterator[tuple[str, float, bool, str]]:
    """Every number of a plan, whether it is within its limits, and what those are."""
    scenes, schedule, augmentation, validation = plan.scenes, plan.schedule, plan.augmentation, plan.validation
    counts = {
        "scenes.count": scenes.count,
        "scenes.side": scenes.side,
        "schedule.steps": schedule.steps,
        "schedule.batch": schedule.batch,
        "validation.scenes": validation.scenes,
    }
    yield from ((key, value, value >= 1, "at least 1") for key, value in counts.items())
    amounts = {
        "seed": plan.seed,
        "schedule.encoder_rate": schedule.encoder_rate,
        "schedule.decoder_rate": schedule.decoder_rate,
        "schedule.weight_decay": schedule.weight_decay,
        "augmentation.colour": augmentation.colour,
        "loss.alpha": plan.loss.alpha,
    }
    yield from ((key, value, value >= 0, "at least 0") for key, value in amounts.items())
    yield "schedule.clip", schedule.clip, schedule.clip > 0, "above 0"
    yield "schedule.warm_up", schedule.warm_up, 0 <= schedule.warm_up <= schedule.steps, "0 to schedule.steps"
    coarse = schedule.coarse_steps
    yield "schedule.coarse_steps", coarse, 0 <= coarse <= schedule.steps, "0 to schedule.steps"
    side = schedule.coarse_side
    yield "schedule.coarse_side", side, side >= 1 or not coarse, "at least 1 where there are coarse_steps"
    yield "loss.trim", plan.loss.trim, 0 <= plan.loss.trim < 1, "0 to less than 1"
    crop = augmentation.smallest_crop
    yield "augmentation.smallest_crop", crop, 0 < crop <= 1, "above 0, at most 1"
    for key, first, count, allowed in (
        ("scenes", scenes.first, scenes.count, TRAINING),
        ("validation", validation.first, validation.scenes, VALIDATION),
    ):
        last = allowed.stop - count
        yield f"{key}.first", first, allowed.start <= first <= last, f"{allowed.start} to {last}, the scenes for {key}"
