"""Tasks: one record for each kind of output, read by everything that depends on the kind.

A new kind of output is one more record in :data:`TASKS`. Its fields choose from what the program can do:
``imaging/maps.py`` turns raw outputs into maps, ``jobs/verify/compare.py`` compares outputs, ``imaging/formats.py``
writes maps to files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dpt_deploy.core.spec import SCORES_TASK, SKY_TASK, ModelSpec, Quantity


@dataclass(frozen=True)
class Task:
    """One kind of output.

    Attributes:
        name: its name in sidecars.
        output: the usual name of the tensor.
        shape: the tensor's dimensions; a string is symbolic.
        values: what the tensor holds: ``numbers``, ``scores`` of classes, or 0-based ``labels``.
        resample: how a raw output becomes a map of the image's size: ``restore`` resizes it by the filter of the image
            rule, ``nearest`` resizes labels, ``argmax`` resizes the scores of all classes and takes the largest.
        compare: how a candidate is held to a reference. ``range``: largest and mean absolute difference over the
            reference's range, at most ``Tolerance.max`` and ``Tolerance.mean``. ``labels``: share of pixels with
            another label, at most ``Tolerance.disagreement``.
        drift: the distance of two outputs in the task's own terms: ``abs_rel`` is the mean relative error after affine
            alignment (paper §4.1), ``labels`` the share of pixels with another label, ``range`` the mean error over
            the reference's range.
        formats: what ``run`` writes by default (names of :mod:`dpt_deploy.imaging.formats`).
        palette: colours of a map: a colour map of OpenCV, or ``classes``.
        unit: ``m`` where numbers are metres.
        quantity: what the numbers of a depth map are; empty for other kinds of output.
        full_scale: the span that errors are divided by at least, for numbers with a scale of their own, which may well
            be flat in an image; 0: the reference's range alone.
    """

    name: str
    output: str
    shape: tuple[int | str, ...]
    values: Literal["numbers", "scores", "labels"]
    resample: Literal["restore", "argmax", "nearest"]
    compare: Literal["range", "labels"]
    drift: Literal["abs_rel", "labels", "range"]
    formats: tuple[str, ...]
    palette: str
    unit: Literal["", "m"] = ""
    quantity: Quantity | Literal[""] = ""
    full_scale: float = 0.0

    @property
    def of_classes(self) -> bool:
        """True if a map holds labels (uint16, 1 is the first class), False if it holds numbers (float32)."""
        return self.values != "numbers"


_MAP = ("batch", "height", "width")

DEPTH = Task(
    name="depth",
    output="predicted_depth",
    shape=_MAP,
    values="numbers",
    resample="restore",
    compare="range",
    drift="abs_rel",
    formats=("png", "pfm"),
    palette="inferno",
    quantity="inverse depth",
)
METRIC_DEPTH = replace(DEPTH, name="metric-depth", unit="m", quantity="metres")
RELATIVE_DEPTH = replace(DEPTH, name="relative-depth", quantity="relative depth")
CANONICAL_DEPTH = replace(DEPTH, name="canonical-depth", quantity="canonical depth")
SKY = Task(
    name=SKY_TASK,
    output="sky",
    shape=_MAP,
    values="numbers",
    resample="restore",
    compare="range",
    drift="range",
    formats=("pfm",),
    palette="bone",
    full_scale=1.0,  # 0 is the ground, 1 the sky
)
SCORES = Task(
    name=SCORES_TASK,
    output="logits",
    shape=("batch", "classes", "height", "width"),
    values="scores",
    resample="argmax",
    compare="range",
    drift="labels",
    formats=("labels",),
    palette="classes",
)
LABELS = Task(
    name="labels",
    output="labels",
    shape=_MAP,
    values="labels",
    resample="nearest",
    compare="labels",
    drift="labels",
    formats=("labels",),
    palette="classes",
)

_DEPTHS = (DEPTH, METRIC_DEPTH, RELATIVE_DEPTH, CANONICAL_DEPTH)
_BY_QUANTITY = {task.quantity: task for task in _DEPTHS}
DEPTH_TASKS = tuple(task.name for task in _DEPTHS)
LABEL_TASKS = (SCORES.name, LABELS.name)
TASKS = {task.name: task for task in (*_DEPTHS, SKY, SCORES, LABELS)}


def task_named(name: str) -> Task:
    """The record of a task.

    Raises:
        ValueError: this program knows no such task.
    """
    if name not in TASKS:
        raise ValueError(f"task {name!r} is unknown; expected one of {', '.join(TASKS)}")
    return TASKS[name]


def tasks_of(model: ModelSpec, *, labels: bool = False) -> tuple[Task, ...]:
    """The tasks of a model's outputs, in their order: the one of its head, then those of its joint heads."""
    return (task_of(model, labels=labels), *(task_named(name) for name in model.joint))


def task_of(model: ModelSpec, *, labels: bool = False) -> Task:
    """The task of a model's first output; ``labels`` if its graph ends in ArgMax."""
    if quantity := model.output_quantity:
        return _BY_QUANTITY[quantity]
    return LABELS if labels else SCORES
