"""Hugging Face's DPT on an encoder of its own class (``backbone_config``): BEiT and Swin V2.

Files have the names of transformers 4, which version 5 writes too. It holds BEiT under other names in memory; both are
read. The configuration is read by :mod:`dpt_deploy.model.families.backbone_config`.
"""

from __future__ import annotations

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.families.backbone_config import adapt_to_backbone
from dpt_deploy.model.families.family import CheckpointDescription, Family, Rule
from dpt_deploy.model.families.huggingface import IMAGE, NO_SKIP, decoder_rules
from dpt_deploy.model.families.shared import COUNTER, head_rules

_UNUSED = (
    COUNTER,
    NO_SKIP,
    ("backbone.{x}.relative_position_index", "index of pairs, computed from the size"),
    ("backbone.{x}.relative_coords_table", "offsets of pairs, computed from the window"),
)


def _adapt(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    return spec if checkpoint.config is None else adapt_to_backbone(spec, checkpoint.config, checkpoint.source)


def _family(encoder: str, marks: tuple[str, ...], rules: list[Rule]) -> Family:
    return Family(
        f"Hugging Face DPT on {encoder}",
        "depth",
        marks=(*marks, "neck.fusion_stage.{x}"),
        rules=(*rules, *decoder_rules(), *head_rules("head.head", "depth")),
        unused=_UNUSED,
        image=IMAGE,
        adapt=_adapt,
    )


def _attention(theirs: str, ours: str, names: tuple[str, str, str]) -> list[Rule]:
    """Queries, keys and values are one matrix here; keys have no bias, and the others' biases have names of their own.

    The rules of the biases come first: the first one that matches counts.
    """
    query, _key, value = names
    return [
        Rule(f"{theirs}.{query}.bias", f"{ours}.q_bias"),
        Rule(f"{theirs}.{value}.bias", f"{ours}.v_bias"),
        *(Rule(f"{theirs}.{name}.weight", f"{ours}.qkv.weight", part, 3) for part, name in enumerate(names)),
    ]


def _beit_layer(layer: str, names: dict[str, str], attention: list[Rule]) -> list[Rule]:
    block = "encoder.blocks.{n}"
    shared = {"layernorm_before.{x}": "norm1.{x}", "layernorm_after.{x}": "norm2.{x}"}
    gains = {"lambda_1": "gamma_1", "lambda_2": "gamma_2"}
    pairs = {**shared, **gains, **names}
    return attention + [Rule(f"{layer}.{theirs}", f"{block}.{ours}") for theirs, ours in pairs.items()]


def _beit() -> list[Rule]:
    """The names of files, then those that transformers 5 has in memory."""
    ours, table = "encoder.blocks.{n}.attn", "relative_position_bias.relative_position_bias_table"
    old, new = "backbone.encoder.layer.{n}", "backbone.beit.layers.{n}"
    rules = []
    for stem in ("backbone", "backbone.beit"):
        rules.append(Rule(f"{stem}.embeddings.cls_token", "encoder.prefix"))
        rules.append(Rule(f"{stem}.embeddings.patch_embeddings.projection.{{x}}", "encoder.embed.proj.{x}"))
    rules += _beit_layer(
        old,
        {
            f"attention.attention.{table}": "attn.position.table",
            "attention.output.dense.{x}": "attn.proj.{x}",
            "intermediate.dense.{x}": "mlp.fc1.{x}",
            "output.dense.{x}": "mlp.fc2.{x}",
        },
        _attention(f"{old}.attention.attention", ours, ("query", "key", "value")),
    )
    return rules + _beit_layer(
        new,
        {table: "attn.position.table", "attention.o_proj.{x}": "attn.proj.{x}", "mlp.{x}": "mlp.{x}"},
        _attention(f"{new}.attention", ours, ("q_proj", "k_proj", "v_proj")),
    )


def _swin2() -> list[Rule]:
    layer, block = "backbone.encoder.layers.{n}", "encoder.stages.{n}.blocks.{m}"
    theirs, ours = f"{layer}.blocks.{{m}}", f"{block}.attn"
    return [
        Rule("backbone.embeddings.patch_embeddings.projection.{x}", "encoder.embed.proj.{x}"),
        Rule("backbone.embeddings.norm.{x}", "encoder.embed.norm.{x}"),
        *_attention(f"{theirs}.attention.self", ours, ("query", "key", "value")),
        Rule(f"{theirs}.attention.self.logit_scale", f"{ours}.scores.logit_scale"),
        Rule(f"{theirs}.attention.self.continuous_position_bias_mlp.{{x}}", f"{ours}.scores.position.{{x}}"),
        Rule(f"{theirs}.attention.output.dense.{{x}}", f"{ours}.proj.{{x}}"),
        Rule(f"{theirs}.layernorm_before.{{x}}", f"{block}.norm1.{{x}}"),
        Rule(f"{theirs}.layernorm_after.{{x}}", f"{block}.norm2.{{x}}"),
        Rule(f"{theirs}.intermediate.dense.{{x}}", f"{block}.mlp.fc1.{{x}}"),
        Rule(f"{theirs}.output.dense.{{x}}", f"{block}.mlp.fc2.{{x}}"),
        Rule(f"{layer}.downsample.{{x}}", "encoder.stages.{n}.merge.{x}"),
    ]


FAMILIES = (
    _family("BEiT", ("backbone.{x}.relative_position_bias.relative_position_bias_table",), _beit()),
    _family("Swin V2", ("backbone.encoder.layers.{n}.blocks.{m}.attention.self.logit_scale",), _swin2()),
)
