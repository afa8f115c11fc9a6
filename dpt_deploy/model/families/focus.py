"""FocusOnDepth (antocad/FocusOnDepth): depth and segmentation on one decoder, in one file.

Its trainer writes the weights under ``model_state_dict``. A file has both heads, or one of them, as its configuration
says.
"""

from __future__ import annotations

from dpt_deploy.core.spec import SCORES_TASK, ModelTask
from dpt_deploy.model.families.family import Family, ImageRule, Rule

_VIT = "transformer_encoders"
_HEADS = {"depth": "head_depth", "segmentation": "head_segmentation"}
_LAST = {"depth": "conv3", "segmentation": "classifier"}
_BODY = (
    Rule(f"{_VIT}.cls_token", "encoder.prefix"),
    Rule(f"{_VIT}.pos_embed", "encoder.position.table"),
    Rule(f"{_VIT}.patch_embed.{{x}}", "encoder.embed.{x}"),
    Rule(f"{_VIT}.blocks.{{n}}.{{x}}", "encoder.blocks.{n}.{x}"),
    Rule("reassembles.{n}.read.project.0.{x}", "reassemble.{n}.readout.project.{x}"),
    Rule("reassembles.{n}.resample.conv1.{x}", "reassemble.{n}.projection.{x}"),
    Rule("reassembles.{n}.resample.conv2.{x}", "reassemble.{n}.resize.{x}"),
    Rule("fusions.{n}.res_conv1.{x}", "fusion.{n}.skip_unit.{x}"),
    Rule("fusions.{n}.res_conv2.{x}", "fusion.{n}.unit.{x}"),
)
_UNUSED = (
    (f"{_VIT}.norm.{{x}}", "the taps are read before the final norm"),
    (f"{_VIT}.head.{{x}}", "ImageNet classifier"),
)


def _head(task: ModelTask, place: str) -> tuple[Rule, ...]:
    names = {"0": "conv1", "2": "conv2", "4": _LAST[task]}
    return tuple(Rule(f"{_HEADS[task]}.head.{theirs}.{{x}}", f"{place}.{ours}.{{x}}") for theirs, ours in names.items())


def _family(task: ModelTask, further: tuple[Rule, ...], unused: tuple[tuple[str, str], ...]) -> Family:
    return Family(
        "antocad/FocusOnDepth",
        task,
        marks=(f"{_VIT}.blocks.{{n}}.{{x}}", f"{_HEADS[task]}.head.{{n}}.{{x}}"),
        rules=(*_BODY, *_head(task, "head"), *further),
        unused=(*_UNUSED, *unused),
        licence="MIT",
        image=ImageRule("minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        several=True,
    )


FAMILIES = (
    _family("depth", _head("segmentation", f"joint.{SCORES_TASK}"), ()),
    _family("segmentation", (), (("head_depth.{x}", "head of depth, which was not asked for"),)),
)
