"""The original DPT (isl-org/DPT, and MiDaS 3.0), in its two layouts: ``main`` and ``dpt_scriptable``."""

from __future__ import annotations

from dpt_deploy.core.spec import ModelTask
from dpt_deploy.model.families.family import Family, ImageRule, Rule
from dpt_deploy.model.families.shared import LEVELS, ORIGINAL_UNUSED, original_decoder, task_mark

LICENCE = "MIT"  # of code and weights: the repository names no other for the weights
IMAGE = ImageRule("minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def main_layout(task: ModelTask) -> Family:
    """Checkpoints of the branch ``main``: every published one."""
    return _family(
        "isl-org/DPT",
        task,
        "pretrained.act_postprocess{n}.3.{x}",
        main_reassemble(),
    )


def scriptable_layout(task: ModelTask) -> Family:
    """Checkpoints of the branch ``dpt_scriptable``, whose read-out is a module of its own."""
    return _family(
        "isl-org/DPT dpt_scriptable",
        task,
        "pretrained.act_postprocess{n}.0.weight",
        _reassemble("readout_oper{k}.0.project.0", "act_postprocess{k}.0", "act_postprocess{k}.1"),
    )


def _family(name: str, task: ModelTask, mark: str, reassemble: list[Rule]) -> Family:
    return Family(
        name,
        task,
        marks=("pretrained.model.{x}", mark, *task_mark("scratch.output_conv", task)),
        rules=(*_vit(), *reassemble, *original_decoder(task)),
        unused=ORIGINAL_UNUSED,
        licence=LICENCE,
        image=IMAGE,
    )


def _vit() -> list[Rule]:
    model = "pretrained.model"
    return [
        Rule(f"{model}.cls_token", "encoder.prefix", part=0, parts=0, axis=1),
        Rule(f"{model}.dist_token", "encoder.prefix", part=1, parts=0, axis=1),
        Rule(f"{model}.pos_embed", "encoder.position.table"),
        Rule(f"{model}.patch_embed.{{x}}", "encoder.embed.{x}"),
        Rule(f"{model}.blocks.{{n}}.{{x}}", "encoder.blocks.{n}.{x}"),
    ]


def main_reassemble() -> list[Rule]:
    """The reassemble part of the branch ``main`` and of MiDaS 3."""
    return _reassemble("act_postprocess{k}.0.project.0", "act_postprocess{k}.3", "act_postprocess{k}.4")


def _reassemble(readout: str, projection: str, resize: str) -> list[Rule]:
    parts = ((readout, "readout.project"), (projection, "projection"), (resize, "resize"))
    return [
        Rule(f"pretrained.{theirs.format(k=level + 1)}.{{x}}", f"reassemble.{level}.{ours}.{{x}}")
        for level in LEVELS
        for theirs, ours in parts
    ]


FAMILIES = (
    main_layout("segmentation"),
    main_layout("depth"),
    scriptable_layout("segmentation"),
    scriptable_layout("depth"),
)
