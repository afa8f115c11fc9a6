"""Hugging Face's DPT: its keys. Its ``config.json`` is read by :mod:`dpt_deploy.model.families.huggingface_config`.

Folders are written by :mod:`dpt_deploy.model.checkpoints.huggingface`. ``transformers`` is not needed for either.
"""

from __future__ import annotations

from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.model.families.family import CheckpointDescription, Family, ImageRule, Rule
from dpt_deploy.model.families.huggingface_config import adapt_to_config
from dpt_deploy.model.families.shared import COUNTER, LEVELS, head_rules, task_mark

IMAGE = ImageRule("minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # of DPTImageProcessor; other means can be set

NO_SKIP = ("neck.fusion_stage.layers.0.residual_layer1.{x}", "unit for a skip that the coarsest block does not have")


def _adapt(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    return spec if checkpoint.config is None else adapt_to_config(spec, checkpoint.config, checkpoint.source)


def _encoder() -> list[Rule]:
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


def decoder_rules() -> list[Rule]:
    """The rules of everything behind the encoder, except the head."""
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


def _family(task: ModelTask) -> Family:
    return Family(
        "Hugging Face DPT",
        task,
        marks=("dpt.embeddings.{x}", "neck.fusion_stage.{x}", *task_mark("head.head", task)),
        rules=(*_encoder(), *decoder_rules(), *head_rules("head.head", task)),
        unused=(
            COUNTER,
            NO_SKIP,
            ("dpt.layernorm.{x}", "the taps are read before the final norm"),
            ("dpt.pooler.{x}", "pooled token of a classifier"),
            ("auxiliary_head.{x}", "auxiliary head of training"),
            ("dpt.embeddings.backbone.bit.encoder.stages.3.{x}", "stage after the one that makes the tokens"),
        ),
        image=IMAGE,
        adapt=_adapt,
        layout="huggingface",
    )


BY_TASK: dict[ModelTask, Family] = {"segmentation": _family("segmentation"), "depth": _family("depth")}
FAMILIES = tuple(BY_TASK.values())
