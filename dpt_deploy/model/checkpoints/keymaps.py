"""Which key of a checkpoint is which parameter of the model, for every family of published checkpoints.

A rule is a pair of key templates, read in both directions: loading goes from the file's keys to the model's, saving
and error messages go back. In a template ``{n}`` and ``{m}`` stand for a number, ``{x}`` for the rest of the key.
Levels of the decoder are written out, because the originals count from 1 or from the coarsest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from dpt_deploy.core.spec import Task

LEVELS = range(4)  # of the decoder, finest first; the coarsest has no unit for a skip


@dataclass(frozen=True)
class Rule:
    """The file's ``theirs`` is the model's ``ours``, or one of ``parts`` pieces of it, concatenated along ``axis``.

    ``parts = 0`` means as many pieces as the file has.
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
class Family:
    """The naming scheme of one family of checkpoints, for one task.

    A checkpoint belongs to it when each of ``marks`` is found among its keys. ``unused`` are the keys that are left
    out on purpose, each with the reason.
    """

    name: str
    task: Task
    marks: tuple[str, ...]
    rules: tuple[Rule, ...]
    unused: tuple[tuple[str, str], ...]

    def slot(self, theirs: str) -> TensorSlot | None:
        """Where the file's key ``theirs`` goes; None when no rule knows it."""
        for rule in self.rules:
            ours = _rewrite(rule.theirs, rule.ours, theirs)
            if ours is not None:
                return TensorSlot(ours, rule.part, rule.parts, rule.axis)
        return None

    def reason_unused(self, theirs: str) -> str | None:
        """Why the file's key is left out on purpose; None when it is not."""
        for template, reason in self.unused:
            if _compile(template).fullmatch(theirs):
                return reason
        return None

    def sources(self, ours: str) -> list[tuple[str, Rule]]:
        """The file's keys that make up the model's key ``ours``, each with the rule that says so."""
        found = ((_rewrite(rule.ours, rule.theirs, ours), rule) for rule in self.rules)
        return [(theirs, rule) for theirs, rule in found if theirs is not None]


def detect(keys: Iterable[str]) -> Family | None:
    """The family of a checkpoint with these keys, or None."""
    names = list(keys)
    for family in FAMILIES:
        if all(any(_compile(mark).fullmatch(name) for name in names) for mark in family.marks):
            return family
    return None


def foreign(keys: Iterable[str]) -> str | None:
    """What a checkpoint is that no network of the zoo can hold, or None when that is not known."""
    names = list(keys)
    for part, what in _FOREIGN:
        if any(part in name for name in names):
            return what
    return None


@cache
def _compile(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for name, expression in (("n", r"\d+"), ("m", r"\d+"), ("x", r".+")):
        pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{expression})")
    return re.compile(pattern)


def _rewrite(source: str, target: str, key: str) -> str | None:
    match = _compile(source).fullmatch(key)
    return target.format(**match.groupdict()) if match else None


_COUNTER = ("{x}.num_batches_tracked", "step counter of training")

_DEPTH_HEAD = {"0": "conv1", "2": "conv2", "4": "conv3"}
_SEGMENTATION_HEAD = {"0": "conv", "1": "bn", "4": "classifier"}


def _head(prefix: str, task: Task) -> list[Rule]:
    names = _DEPTH_HEAD if task == "depth" else _SEGMENTATION_HEAD
    return [Rule(f"{prefix}.{theirs}.{{x}}", f"head.{ours}.{{x}}") for theirs, ours in names.items()]


# --- the original repositories ---------------------------------------------------------------------------------------


def _original_decoder(task: Task) -> list[Rule]:
    rules = _head("scratch.output_conv", task)
    for level in LEVELS:
        theirs = f"scratch.refinenet{level + 1}"
        rules.append(Rule(f"scratch.layer{level + 1}_rn.{{x}}", f"neck.{level}.{{x}}"))
        rules.append(Rule(f"{theirs}.resConfUnit2.{{x}}", f"fusion.{level}.unit.{{x}}"))
        rules.append(Rule(f"{theirs}.out_conv.{{x}}", f"fusion.{level}.out_conv.{{x}}"))
        if level != LEVELS[-1]:
            rules.append(Rule(f"{theirs}.resConfUnit1.{{x}}", f"fusion.{level}.skip_unit.{{x}}"))
    return rules


def _original_vit() -> list[Rule]:
    model = "pretrained.model"
    return [
        Rule(f"{model}.cls_token", "encoder.prefix", part=0, parts=0, axis=1),
        Rule(f"{model}.dist_token", "encoder.prefix", part=1, parts=0, axis=1),
        Rule(f"{model}.pos_embed", "encoder.position.table"),
        Rule(f"{model}.patch_embed.{{x}}", "encoder.embed.{x}"),
        Rule(f"{model}.blocks.{{n}}.{{x}}", "encoder.blocks.{n}.{x}"),
    ]


def _original_reassemble(readout: str, projection: str, resize: str) -> list[Rule]:
    rules = []
    for level in LEVELS:
        for theirs, ours in ((readout, "readout.project"), (projection, "projection"), (resize, "resize")):
            rules.append(Rule(f"pretrained.{theirs.format(k=level + 1)}.{{x}}", f"reassemble.{level}.{ours}.{{x}}"))
    return rules


_ORIGINAL_UNUSED = (
    _COUNTER,
    ("scratch.refinenet4.resConfUnit1.{x}", "unit for a skip that the coarsest block does not have"),
    ("pretrained.model.norm.{x}", "the taps are read before the final norm"),
    ("pretrained.model.head.{x}", "ImageNet classifier"),
    ("pretrained.model.head_dist.{x}", "ImageNet classifier of the distillation token"),
    ("auxlayer.{x}", "auxiliary head of training"),
)


def _dpt_main(task: Task) -> Family:
    reassemble = _original_reassemble("act_postprocess{k}.0.project.0", "act_postprocess{k}.3", "act_postprocess{k}.4")
    rules = _original_vit() + reassemble + _original_decoder(task)
    marks = ("pretrained.model.{x}", "pretrained.act_postprocess{n}.3.{x}", *_task_mark("scratch.output_conv", task))
    return Family("isl-org/DPT", task, marks, tuple(rules), _ORIGINAL_UNUSED)


def _dpt_scriptable(task: Task) -> Family:
    reassemble = _original_reassemble("readout_oper{k}.0.project.0", "act_postprocess{k}.0", "act_postprocess{k}.1")
    rules = _original_vit() + reassemble + _original_decoder(task)
    marks = ("pretrained.model.{x}", "pretrained.act_postprocess{n}.0.weight", *_task_mark("scratch.output_conv", task))
    return Family("isl-org/DPT dpt_scriptable", task, marks, tuple(rules), _ORIGINAL_UNUSED)


def _task_mark(prefix: str, task: Task) -> tuple[str, ...]:
    """The head of segmentation has a batch norm where the head of depth has nothing to learn."""
    return (f"{prefix}.1.{{x}}",) if task == "segmentation" else ()


def _midas21() -> Family:
    rules = [
        Rule("pretrained.layer1.0.{x}", "encoder.stem.conv1.{x}"),
        Rule("pretrained.layer1.1.{x}", "encoder.stem.bn1.{x}"),
        Rule("pretrained.layer1.4.{x}", "encoder.stages.0.{x}"),
        *(Rule(f"pretrained.layer{stage + 1}.{{x}}", f"encoder.stages.{stage}.{{x}}") for stage in (1, 2, 3)),
        *_original_decoder("depth"),
    ]
    marks = ("pretrained.layer{n}.{x}", "scratch.refinenet{n}.{x}")
    return Family("isl-org/MiDaS 2.1", "depth", marks, tuple(rules), _ORIGINAL_UNUSED)


# --- Hugging Face transformers ---------------------------------------------------------------------------------------


def _huggingface(task: Task) -> Family:
    marks = ("dpt.embeddings.{x}", "neck.fusion_stage.{x}", *_task_mark("head.head", task))
    rules = _huggingface_encoder() + _huggingface_decoder() + _head("head.head", task)
    unused = (
        _COUNTER,
        ("neck.fusion_stage.layers.0.residual_layer1.{x}", "unit for a skip that the coarsest block does not have"),
        ("dpt.layernorm.{x}", "the taps are read before the final norm"),
        ("dpt.pooler.{x}", "pooled token of a classifier"),
        ("auxiliary_head.{x}", "auxiliary head of training"),
    )
    return Family("Hugging Face DPT", task, marks, tuple(rules), unused)


def _huggingface_encoder() -> list[Rule]:
    layer, block = "dpt.encoder.layer.{n}", "encoder.blocks.{n}"
    bit, stage = "dpt.embeddings.backbone.bit", "encoder.embed.backbone"
    return [
        Rule("dpt.embeddings.cls_token", "encoder.prefix", axis=1),
        Rule("dpt.embeddings.position_embeddings", "encoder.position.table"),
        Rule("dpt.embeddings.patch_embeddings.projection.{x}", "encoder.embed.proj.{x}"),  # ViT
        Rule("dpt.embeddings.projection.{x}", "encoder.embed.proj.{x}"),  # hybrid
        Rule(f"{bit}.embedder.convolution.{{x}}", f"{stage}.stem.conv.{{x}}"),
        Rule(f"{bit}.embedder.norm.{{x}}", f"{stage}.stem.norm.{{x}}"),
        Rule(f"{bit}.encoder.stages.{{n}}.layers.{{m}}.{{x}}", f"{stage}.stages.{{n}}.blocks.{{m}}.{{x}}"),
        *(
            Rule(f"{layer}.attention.attention.{name}.{{x}}", f"{block}.attn.qkv.{{x}}", part=part, parts=3)
            for part, name in enumerate(("query", "key", "value"))
        ),
        Rule(f"{layer}.attention.output.dense.{{x}}", f"{block}.attn.proj.{{x}}"),
        Rule(f"{layer}.layernorm_before.{{x}}", f"{block}.norm1.{{x}}"),
        Rule(f"{layer}.layernorm_after.{{x}}", f"{block}.norm2.{{x}}"),
        Rule(f"{layer}.intermediate.dense.{{x}}", f"{block}.mlp.fc1.{{x}}"),
        Rule(f"{layer}.output.dense.{{x}}", f"{block}.mlp.fc2.{{x}}"),
    ]


def _huggingface_decoder() -> list[Rule]:
    rules, stage = [], "neck.reassemble_stage"
    for level in LEVELS:
        rules += [
            Rule(f"{stage}.readout_projects.{level}.0.{{x}}", f"reassemble.{level}.readout.project.{{x}}"),
            Rule(f"{stage}.layers.{level}.projection.{{x}}", f"reassemble.{level}.projection.{{x}}"),
            Rule(f"{stage}.layers.{level}.resize.{{x}}", f"reassemble.{level}.resize.{{x}}"),
            Rule(f"neck.convs.{level}.{{x}}", f"neck.{level}.{{x}}"),
        ]
        theirs, ours = f"neck.fusion_stage.layers.{LEVELS[-1] - level}", f"fusion.{level}"
        rules.append(Rule(f"{theirs}.projection.{{x}}", f"{ours}.out_conv.{{x}}"))
        for unit, name in (("residual_layer1", "skip_unit"), ("residual_layer2", "unit")):
            rules.append(Rule(f"{theirs}.{unit}.convolution{{n}}.{{x}}", f"{ours}.{name}.conv{{n}}.{{x}}"))
            rules.append(Rule(f"{theirs}.{unit}.batch_norm{{n}}.{{x}}", f"{ours}.{name}.bn{{n}}.{{x}}"))
    return rules


# --- our own ---------------------------------------------------------------------------------------------------------


def _native(task: Task) -> Family:
    mark = "head.classifier.{x}" if task == "segmentation" else "head.{x}"
    return Family("dpt-deploy", task, ("fusion.{n}.unit.{x}", mark), (Rule("{x}", "{x}"),), (_COUNTER,))


HUGGINGFACE: dict[Task, Family] = {"depth": _huggingface("depth"), "segmentation": _huggingface("segmentation")}

# Segmentation comes first: it is known by a mark more.
_TASKS: tuple[Task, ...] = ("segmentation", "depth")
FAMILIES = (
    *(make(task) for make in (_dpt_main, _dpt_scriptable) for task in _TASKS),
    _midas21(),
    *(HUGGINGFACE[task] for task in _TASKS),
    *(_native(task) for task in _TASKS),
)

# A part of a key, and the network that has it: for the error message only. The first that is found counts.
_FOREIGN = (
    ("depth_head.scratch.", "a Depth Anything model"),
    ("relative_position_bias_table", "a DPT with a BEiT or Swin encoder (MiDaS 3.1)"),
    ("attn.logit_scale", "a DPT with a Swin V2 encoder (MiDaS 3.1)"),
    ("scratch.stem_transpose.", "a DPT with a LeViT encoder (MiDaS 3.1)"),
    ("pretrained.layer1.3.0.conv_dw.", "the small MiDaS 2.1 (EfficientNet-Lite3)"),
    ("backbone.embeddings.", "a Hugging Face DPT with a separate backbone"),
)
