"""Trainings of seconds, and a program that ends in the middle of one.

``python -m support.training EVENT train TRAINING ARGS…`` is ``dpt-deploy train`` with a checkpoint every other
step. After the checkpoint of the step in EVENT (``die:4``, ``wait:4``) it kills itself or waits for a signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from dpt_deploy.cli import main as command_line
from dpt_deploy.jobs.train import loop as train

BASE = Path(__file__).with_name("recipes") / "tiny-vit.toml"
EVERY = 2  # steps a checkpoint

TRAINING = """
backbone = "{backbone}"
task = "{task}"
seed = 3
[scenes]
count = 5
side = 48
[schedule]
steps = 8
batch = 2
encoder_rate = 1e-4
decoder_rate = 1e-3
warm_up = 2
[validation]
scenes = 1
"""
RECIPE = """
base = "{base}"
[image]
height = 32
width = 32
"""


def write_training(folder: Path, *, task: str = "depth", **changes: str) -> Path:
    """Write the training file of a tiny network on 32x32 pixels; ``steps="0"`` changes the value of a key."""
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE.format(base=BASE))
    lines = TRAINING.format(backbone=recipe, task=task).splitlines()
    for key, value in changes.items():
        lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in lines]
    path = folder / "training.toml"
    path.write_text("\n".join(lines))
    return path


def checkpoint_often(set_attribute: Any) -> None:
    """Write the checkpoint at every other step instead of every minute."""
    set_attribute(train, "_RECORD_EVERY", EVERY)
    set_attribute(train, "_CHECKPOINT_EVERY_S", -1.0)


def act_after(set_attribute: Any, wanted: int, act: Any) -> None:
    """Call ``act`` when the checkpoint of a step is written."""
    save = train._State.save

    def watched(state: Any, step: int) -> None:
        save(state, step)
        if step == wanted:
            act()

    set_attribute(train._State, "save", watched)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    print("ready", flush=True)
    time.sleep(60)


def main() -> None:
    _, event, *argv = sys.argv
    action, _, step = event.partition(":")
    checkpoint_often(setattr)
    act_after(setattr, int(step), {"die": die, "wait": wait}[action])
    command_line(argv)


if __name__ == "__main__":
    main()
