"""Training files (TOML) as checked, frozen data. Reading one needs no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from dpt_deploy.core.decode import decode
from dpt_deploy.core.documents import parse_toml, read_regular
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.limits import TOML
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.scenes.seeds import TRAINING, VALIDATION

_LARGEST = 2**63  # seeds are smaller


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rates.

    ``encoder_rate`` is the learning rate of the encoder, ``decoder_rate`` that of everything else. (In the paper,
    encoders are pre-trained and learn at a tenth of the decoder's rate.) At 0 the encoder is frozen, so networks of two
    tasks can share it. Rates rise over ``warm_up`` steps, then fall:
    as a half ``cosine`` to 0, or by the ``polynomial`` ``(1 - step/steps)^0.9`` of DPT §4.2. ``adam`` is AdamW (the
    paper's Adam if ``weight_decay`` is 0); ``sgd`` has the paper's momentum of 0.9. ``clip`` bounds the norm of the
    gradient. The first ``coarse_steps`` use images of ``coarse_side`` pixels per side, which are faster; the others use
    the network's own resolution.
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
        """Factor of the learning rates at ``step``."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        share = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.5 * (1 + math.cos(math.pi * share)) if self.decay == "cosine" else (1 - share) ** 0.9


@dataclass(frozen=True)
class Loss:
    """Loss of depth (DPT §4.1): ``trim`` is the share of the largest residuals that is ignored, ``alpha`` the weight of
    gradient matching. The paper trims a fifth because its data has wrong pixels; rendered depth has none."""

    trim: float = 0.2
    alpha: float = 0.5


@dataclass(frozen=True)
class Augmentation:
    """Random crops and colours: ``smallest_crop`` is the smallest side of the square crop as a share of the scene's,
    ``colour`` the strength of random exposure, contrast, white balance and saturation (0: none)."""

    smallest_crop: float = 0.875
    colour: float = 0.25


@dataclass(frozen=True)
class SceneSet:
    """Training scenes: their number, their side in pixels, and the first scene number."""

    count: int
    side: int
    first: int = 0


@dataclass(frozen=True)
class Validation:
    """Validation scenes: their number, and the first scene number (in :data:`~dpt_deploy.scenes.seeds.VALIDATION`)."""

    scenes: int = 64
    first: int = VALIDATION.start


@dataclass(frozen=True)
class TrainingConfig:
    """A training file (``benchmarks/trainings/*.toml``): network, scenes, schedule and loss of a training.

    ``backbone`` is a name of the zoo, or a recipe file relative to the training file. ``start`` names the weights to
    start from, like ``--weights`` (a file, or the name of shipped weights); without it the training is from scratch.
    They may be of the other task: tensors that they lack begin anew.
    """

    backbone: str
    seed: int
    scenes: SceneSet
    schedule: Schedule
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    validation: Validation = Validation()
    task: ModelTask = "depth"
    start: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that makes two trainings of a network the same one; the validation does not count.

        Keys that were added later are included only if they differ from their defaults.
        """
        added = {"task": "depth", "start": "", "loss": asdict(Loss())}
        found = {key: value for key, value in asdict(self).items() if key != "validation"}
        if not self.schedule.coarse_steps:
            del found["schedule"]["coarse_steps"], found["schedule"]["coarse_side"]
        return {key: value for key, value in found.items() if added.get(key) != value}


def read_training(path: Path | str) -> TrainingConfig:
    """Read a training file; raises :class:`BadFileError` if it is missing, not TOML, or has a wrong key."""
    path = Path(path)
    raw = read_regular(path, TOML, what="training file", hint="see benchmarks/trainings/")
    try:
        table = parse_toml(raw)
        _refuse_unknown(TrainingConfig, table, "")
        config: TrainingConfig = decode(TrainingConfig, table)
        _check(config)
        if config.backbone.endswith(".toml"):
            config = replace(config, backbone=str(path.parent / config.backbone))
    except ValueError as exc:
        raise BadFileError(f"training file {path}: {exc}", hint="see benchmarks/trainings/ for examples") from exc
    return config


def _refuse_unknown(kind: Any, table: dict[str, Any], where: str) -> None:
    """Refuse misspelt keys, which would otherwise have no effect."""
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"unknown key {where}{key!r}; known: {', '.join(known)}")
        if is_dataclass(hints[key]) and isinstance(value, dict):
            _refuse_unknown(hints[key], value, f"{where}{key}.")


def _check(config: TrainingConfig) -> None:
    for key, value, fine, expected in _limits(config):
        if not fine:
            raise ValueError(f"{key} is {value}; expected {expected}")
        if not value < _LARGEST:
            raise ValueError(f"{key} is {value}; expected a smaller number")


def _limits(config: TrainingConfig) -> Iterator[tuple[str, float, bool, str]]:
    """Yield every number as (key, value, is within its limits, limits)."""
    scenes, schedule, augmentation, validation = config.scenes, config.schedule, config.augmentation, config.validation
    counts = {
        "scenes.count": scenes.count,
        "scenes.side": scenes.side,
        "schedule.steps": schedule.steps,
        "schedule.batch": schedule.batch,
        "validation.scenes": validation.scenes,
    }
    yield from ((key, value, value >= 1, "at least 1") for key, value in counts.items())
    amounts = {
        "seed": config.seed,
        "schedule.encoder_rate": schedule.encoder_rate,
        "schedule.decoder_rate": schedule.decoder_rate,
        "schedule.weight_decay": schedule.weight_decay,
        "augmentation.colour": augmentation.colour,
        "loss.alpha": config.loss.alpha,
    }
    yield from ((key, value, value >= 0, "at least 0") for key, value in amounts.items())
    yield "schedule.clip", schedule.clip, schedule.clip > 0, "above 0"
    yield "schedule.warm_up", schedule.warm_up, 0 <= schedule.warm_up <= schedule.steps, "0 to schedule.steps"
    coarse = schedule.coarse_steps
    yield "schedule.coarse_steps", coarse, 0 <= coarse <= schedule.steps, "0 to schedule.steps"
    side = schedule.coarse_side
    yield "schedule.coarse_side", side, side >= 1 or not coarse, "at least 1 where there are coarse_steps"
    yield "loss.trim", config.loss.trim, 0 <= config.loss.trim < 1, "0 to less than 1"
    crop = augmentation.smallest_crop
    yield "augmentation.smallest_crop", crop, 0 < crop <= 1, "above 0, at most 1"
    for key, first, count, allowed in (
        ("scenes", scenes.first, scenes.count, TRAINING),
        ("validation", validation.first, validation.scenes, VALIDATION),
    ):
        last = allowed.stop - count
        yield f"{key}.first", first, allowed.start <= first <= last, f"{allowed.start} to {last}, the scenes for {key}"
