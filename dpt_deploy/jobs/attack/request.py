"""Request of an attack: the model, the methods and their strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dpt_deploy.core.precision import FP32
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.jobs.study.models import Approximated

Method = Literal["noise", "fgsm", "pgd", "mi-fgsm"]
NOISE: Method = "noise"


@dataclass(frozen=True)
class AttackRequest:
    """Request of an attack on ``model`` (name, recipe or exported file) and of its measurement.

    ``task`` is the one to attack of a network with several; None is the task of its first output. ``levels`` are
    strengths in levels of 255. ``target`` is ``flip`` (depth: that of the mirrored image) or the number
    of a class (segmentation); None raises the error instead. Without ``size``, the model runs at its training size.
    ``approximations`` are exported next to the exact network, which alone is attacked.
    """

    model: str = "tiny"
    weights: str | None = None
    task: ModelTask | None = None
    methods: tuple[str, ...] = ("fgsm", "pgd", "mi-fgsm")
    levels: tuple[float, ...] = (2.0, 8.0)
    steps: int = 10
    random_start: bool = False
    target: str | None = None
    precisions: tuple[str, ...] = (FP32,)
    approximations: tuple[Approximated, ...] = ()
    runtimes: tuple[str, ...] = ("ort",)
    size: Size | None = None
    scenes: int = 16
    data: str | None = None
    limit: int | None = None
    seed: int = 0
