"""Rules that several families share. Levels are written out: the originals count from 1 or from the coarsest."""

from __future__ import annotations

from dpt_deploy.core.spec import ModelTask
from dpt_deploy.model.families.family import Rule

LEVELS = range(4)  # of the decoder, finest first; the coarsest has no unit for a skip
COUNTER = ("{x}.num_batches_tracked", "step counter of training")

_DEPTH_HEAD = {"0": "conv1", "2": "conv2", "4": "conv3"}
_SEGMENTATION_HEAD = {"0": "conv", "1": "bn", "4": "classifier"}


def head_rules(prefix: str, task: ModelTask) -> list[Rule]:
    """The output head, a ``Sequential`` called ``prefix`` in the file."""
    names = _DEPTH_HEAD if task == "depth" else _SEGMENTATION_HEAD
    return [Rule(f"{prefix}.{theirs}.{{x}}", f"head.{ours}.{{x}}") for theirs, ours in names.items()]


def task_mark(prefix: str, task: ModelTask) -> tuple[str, ...]:
    """The mark of the task: segmentation's head has a batch norm where depth's has nothing to learn."""
    return (f"{prefix}.1.{{x}}",) if task == "segmentation" else ()


def original_decoder(task: ModelTask, levels: int = len(LEVELS)) -> list[Rule]:
    """Fusion and head of the original repositories: ``layer1`` and ``refinenet1`` are the finest level."""
    rules = head_rules("scratch.output_conv", task)
    for level in range(levels):
        theirs = f"scratch.refinenet{level + 1}"
        rules.append(Rule(f"scratch.layer{level + 1}_rn.{{x}}", f"neck.{level}.{{x}}"))
        rules.append(Rule(f"{theirs}.resConfUnit2.{{x}}", f"fusion.{level}.unit.{{x}}"))
        rules.append(Rule(f"{theirs}.out_conv.{{x}}", f"fusion.{level}.out_conv.{{x}}"))
        if level != levels - 1:
            rules.append(Rule(f"{theirs}.resConfUnit1.{{x}}", f"fusion.{level}.skip_unit.{{x}}"))
    return rules


ORIGINAL_UNUSED = (
    COUNTER,
    ("scratch.refinenet4.resConfUnit1.{x}", "unit for a skip that the coarsest block does not have"),
    ("pretrained.model.norm.{x}", "the taps are read before the final norm"),
    ("pretrained.model.head.{x}", "ImageNet classifier"),
    ("pretrained.model.head_dist.{x}", "ImageNet classifier of the distillation token"),
    ("auxlayer.{x}", "auxiliary head of training"),
)
