"""The record of one family of checkpoints: how it is recognised, and which of its keys is which parameter.

A rule is a pair of key templates, read in both directions: loading goes from the file's keys to the model's, saving
and error messages go back. In a template ``{n}`` and ``{m}`` stand for a number, ``{x}`` for the rest of the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from dpt_deploy.core.spec import ImageSpec, ModelSpec, ModelTask, ResizeRule


@dataclass(frozen=True)
class Rule:
    """The file's key ``theirs`` is the model's key ``ours``.

    With ``parts`` > 1 it is piece ``part`` of it: the pieces are concatenated along ``axis``. ``parts = 0`` means as
    many pieces as the file has.
    """

    theirs: str
    ours: str
    part: int = 0
    parts: int = 1
    axis: int = 0


@dataclass(frozen=True)
class TensorSlot:
    """The place of one tensor of the file in the model (see :class:`Rule`)."""

    key: str
    part: int
    parts: int
    axis: int


@dataclass(frozen=True)
class ImageRule:
    """The image rule that the published models of a family were trained with, and run with by their authors."""

    resize: ResizeRule
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def differences(self, image: ImageSpec) -> list[str]:
        """The parts in which a recipe's rule departs from this one."""
        pairs = {
            "resize": (image.resize, self.resize),
            "mean": (image.mean, self.mean),
            "std": (image.std, self.std),
        }
        return [f"{key} {found} instead of {wanted}" for key, (found, wanted) in pairs.items() if found != wanted]


class CheckpointDescription(Protocol):
    """A checkpoint's description of its own network, next to its tensors."""

    @property
    def source(self) -> Path:
        """The file or folder, for messages."""

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The content of Hugging Face's ``config.json``; None where there is none."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The text header of a safetensors file."""


Adapt = Callable[[ModelSpec, CheckpointDescription], ModelSpec]


def keep_spec(spec: ModelSpec, _checkpoint: CheckpointDescription) -> ModelSpec:
    """The specification as the recipe has it: for families whose files say nothing but tensors."""
    return spec


@dataclass(frozen=True)
class Family:
    """One family of checkpoints, for one task.

    Attributes:
        name: stands in reports and in the sidecar.
        marks: key templates; a checkpoint belongs to the family when each of them matches one of its keys.
        rules: the key map.
        unused: key templates that are left out on purpose, each with the reason.
        licence: of the weights that its authors published in this layout; empty where files come from many hands.
        image: the image rule of those weights; None where it is the recipe's to say.
        adapt: the specification with the numbers that no tensor shows, read from the checkpoint's own description.
            Raises :class:`~dpt_deploy.core.errors.BadFileError` when that contradicts the specification.
        layout: the name in ``convert --to``; empty where the program does not write this layout.
        several: a file may hold the networks of several tasks, each with a record of this name; the asked one is taken.
    """

    name: str
    task: ModelTask
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    unused: tuple[tuple[str, str], ...] = ()
    licence: str = ""
    image: ImageRule | None = None
    adapt: Adapt = keep_spec
    layout: str = ""
    several: bool = False

    def slot(self, theirs: str) -> TensorSlot | None:
        """The place of the file's key ``theirs``; None when no rule knows it."""
        for rule in self.rules:
            ours = _rewrite(rule.theirs, rule.ours, theirs)
            if ours is not None:
                return TensorSlot(ours, rule.part, rule.parts, rule.axis)
        return None

    def reason_unused(self, theirs: str) -> str | None:
        """The reason why the file's key is left out on purpose; None when it is not."""
        return next((reason for template, reason in self.unused if matches(template, theirs)), None)

    def sources(self, ours: str) -> list[tuple[str, Rule]]:
        """The file's keys that make up the model's key ``ours``, each with its rule."""
        found = ((_rewrite(rule.ours, rule.theirs, ours), rule) for rule in self.rules)
        return [(theirs, rule) for theirs, rule in found if theirs is not None]


def matches(template: str, key: str) -> bool:
    """Return True if the key has the form of the template."""
    return _compile(template).fullmatch(key) is not None


@cache
def _compile(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for name, expression in (("n", r"\d+"), ("m", r"\d+"), ("x", r".+")):
        pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{expression})")
    return re.compile(pattern)


def _rewrite(source: str, target: str, key: str) -> str | None:
    match = _compile(source).fullmatch(key)
    return target.format(**match.groupdict()) if match else None
