"""The task of a network that is attacked: its only one, or one of those of a joint network."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.core.task import tasks_of


def attacked_task(asked: ModelTask | None, model: ModelSpec) -> ModelTask:
    """Return the task to attack: ``asked``, or without it that of the model's first output.

    Raises:
        UsageError: the model does not have the task ``asked``.
    """
    if asked is None:
        return model.task
    if asked not in attackable(model):
        own = " and ".join(attackable(model))
        raise UsageError(
            f"--task is {asked}; {model.name} is a network for {own}",
            hint="leave --task out, or name a network for that task, for example --backbone tiny-both",
        )
    return asked


def attackable(model: ModelSpec) -> tuple[str, ...]:
    """Return the tasks of a model that an attack knows a loss for, in the order of its outputs."""
    return tuple(each for each in model.tasks if each in get_args(ModelTask))


def place_of(model: ModelSpec, tasks: Collection[str]) -> int:
    """Return the place of the output of one of ``tasks``, names of tasks of outputs, among the model's outputs.

    Raises:
        ValueError: the model has no such output.
    """
    found = [place for place, task in enumerate(tasks_of(model)) if task.name in tasks]
    if not found:
        raise ValueError(f"{model.name} has no output for {', '.join(tasks)}")
    return found[0]
