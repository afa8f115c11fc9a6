"""Depth Anything V1, V2 and V2 metric, Depth Anything 3 mono and metric: original files, and Hugging Face folders.

V1, V2, and V2 metric files have the same keys and shapes: the recipe says which of them a file is. The position rule
follows from the kind of file (see :class:`~dpt_deploy.core.encoders.Dinov2Spec`).
"""

from __future__ import annotations

from dataclasses import replace

from dpt_deploy.core.encoders import Dinov2Spec
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.families.dinov2_config import adapt_to_depth_anything
from dpt_deploy.model.families.family import CheckpointDescription, Family, ImageRule, Rule
from dpt_deploy.model.families.huggingface import NO_SKIP, decoder_rules
from dpt_deploy.model.families.shared import LEVELS

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE = ImageRule("lower_bound", _MEAN, _STD)
_MASKS = "token of masked patches in pre-training"


def _offset(spec: ModelSpec, _checkpoint: CheckpointDescription) -> ModelSpec:
    """The specification with the original's position rule."""
    if not isinstance(spec.encoder, Dinov2Spec):
        return spec
    return replace(spec, encoder=replace(spec.encoder, position_rule="offset"))


def _adapt(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    return spec if checkpoint.config is None else adapt_to_depth_anything(spec, checkpoint.config, checkpoint.source)


def _original_encoder(stem: str) -> list[Rule]:
    block, ours = f"{stem}.blocks.{{n}}", "encoder.blocks.{n}"
    return [
        Rule(f"{stem}.cls_token", "encoder.prefix"),
        Rule(f"{stem}.register_tokens", "encoder.registers"),
        Rule(f"{stem}.pos_embed", "encoder.position.table"),
        Rule(f"{stem}.patch_embed.proj.{{x}}", "encoder.embed.proj.{x}"),
        Rule(f"{block}.mlp.w12.{{x}}", f"{ours}.mlp.fc1.{{x}}"),  # SwiGLU, of the giant
        Rule(f"{block}.mlp.w3.{{x}}", f"{ours}.mlp.fc2.{{x}}"),
        Rule(f"{block}.{{x}}", f"{ours}.{{x}}"),
        Rule(f"{stem}.norm.{{x}}", "encoder.norm.{x}"),
    ]


def _original_decoder(head: str) -> list[Rule]:
    scratch = f"{head}.scratch"
    names = {"output_conv1": "conv1", "output_conv2.0": "conv2", "output_conv2.2": "conv3"}
    rules = [Rule(f"{scratch}.{theirs}.{{x}}", f"head.{ours}.{{x}}") for theirs, ours in names.items()]
    for level in LEVELS:
        theirs, ours = f"{scratch}.refinenet{level + 1}", f"fusion.{level}"
        rules += [
            Rule(f"{head}.projects.{level}.{{x}}", f"reassemble.{level}.projection.{{x}}"),
            Rule(f"{head}.resize_layers.{level}.{{x}}", f"reassemble.{level}.resize.{{x}}"),
            Rule(f"{scratch}.layer{level + 1}_rn.{{x}}", f"neck.{level}.{{x}}"),
            Rule(f"{theirs}.resConfUnit2.{{x}}", f"{ours}.unit.{{x}}"),
            Rule(f"{theirs}.out_conv.{{x}}", f"{ours}.out_conv.{{x}}"),
        ]
        if level != LEVELS[-1]:
            rules.append(Rule(f"{theirs}.resConfUnit1.{{x}}", f"{ours}.skip_unit.{{x}}"))
    return rules


def dinov2_folder_rules() -> list[Rule]:
    """The encoder in Hugging Face's folders."""
    layer, ours, stem = "backbone.encoder.layer.{n}", "encoder.blocks.{n}", "backbone.embeddings"
    return [
        Rule(f"{stem}.cls_token", "encoder.prefix"),
        Rule(f"{stem}.position_embeddings", "encoder.position.table"),
        Rule(f"{stem}.patch_embeddings.projection.{{x}}", "encoder.embed.proj.{x}"),
        *(
            Rule(f"{layer}.attention.attention.{name}.{{x}}", f"{ours}.attn.qkv.{{x}}", part=part, parts=3)
            for part, name in enumerate(("query", "key", "value"))
        ),
        Rule(f"{layer}.attention.output.dense.{{x}}", f"{ours}.attn.proj.{{x}}"),
        Rule(f"{layer}.layer_scale1.lambda1", f"{ours}.ls1.gamma"),
        Rule(f"{layer}.layer_scale2.lambda1", f"{ours}.ls2.gamma"),
        Rule(f"{layer}.mlp.weights_in.{{x}}", f"{ours}.mlp.fc1.{{x}}"),  # SwiGLU, of the giant
        Rule(f"{layer}.mlp.weights_out.{{x}}", f"{ours}.mlp.fc2.{{x}}"),
        Rule(f"{layer}.{{x}}", f"{ours}.{{x}}"),
        Rule("backbone.layernorm.{x}", "encoder.norm.{x}"),
    ]


ORIGINAL = Family(
    "Depth Anything",
    "depth",
    marks=("pretrained.blocks.{n}.ls1.gamma", "depth_head.projects.{n}.{x}"),
    rules=(*_original_encoder("pretrained"), *_original_decoder("depth_head")),
    unused=(
        ("pretrained.mask_token", _MASKS),
        ("depth_head.scratch.refinenet4.resConfUnit1.{x}", "unit for a skip that the coarsest block does not have"),
    ),
    image=IMAGE,
    adapt=_offset,
)
THIRD = Family(
    "Depth Anything 3",
    "depth",
    marks=("model.backbone.pretrained.blocks.{n}.ls1.gamma", "model.head.scratch.sky_output_conv2.{n}.{x}"),
    rules=(
        *_original_encoder("model.backbone.pretrained"),
        *_original_decoder("model.head"),
        Rule("model.head.scratch.sky_output_conv2.0.{x}", "head.sky.conv1.{x}"),
        Rule("model.head.scratch.sky_output_conv2.2.{x}", "head.sky.conv2.{x}"),
    ),
    unused=(("model.backbone.pretrained.mask_token", _MASKS),),
    licence="Apache-2.0",
    image=ImageRule("upper_bound", _MEAN, _STD),
    adapt=_offset,
)
FOLDER = Family(
    "Hugging Face Depth Anything",
    "depth",
    marks=("backbone.encoder.layer.{n}.layer_scale1.lambda1", "neck.fusion_stage.{x}", "head.conv1.{x}"),
    rules=(*dinov2_folder_rules(), *decoder_rules(), Rule("head.{x}", "head.{x}")),
    unused=(NO_SKIP, ("backbone.embeddings.mask_token", _MASKS)),
    image=ImageRule("minimal", _MEAN, _STD),
    adapt=_adapt,
)
FAMILIES = (ORIGINAL, THIRD, FOLDER)
