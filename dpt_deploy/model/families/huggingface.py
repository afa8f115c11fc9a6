"""Hugging Face's DPT: its keys, and what its ``config.json`` says about a network that no key shows.

Folders are written by :mod:`dpt_deploy.model.checkpoints.huggingface`. ``transformers`` is not needed for either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.encoders import HybridSpec, TransformerSpec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.model.families.family import CheckpointDescription, Family, ImageRule, Rule
from dpt_deploy.model.families.shared import COUNTER, LEVELS, head_rules, task_mark

# DPTConfig's and BitConfig's own defaults, for keys that a file leaves out.
_DEFAULTS: dict[str, Any] = {
    "model_type": "dpt",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 384,
    "patch_size": 16,
    "num_channels": 3,
    "is_hybrid": False,
    "qkv_bias": True,
    "backbone_out_indices": [2, 5, 8, 11],
    "readout_type": "project",
    "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [96, 192, 384, 768],
    "fusion_hidden_size": 256,
    "head_in_index": -1,
    "use_batch_norm_in_fusion_residual": False,
    "add_projection": False,
}
_BIT_DEFAULTS: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "preactivation",
    "global_padding": None,
    "embedding_dynamic_padding": False,
    "num_groups": 32,
    "width_factor": 1,
}
IMAGE = ImageRule("minimal", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # of DPTImageProcessor; other means can be set
_FREE = ("layer_norm_eps", "image_size")  # the specification follows the file in these


def _adapt(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    return spec if checkpoint.config is None else adapt_to_config(spec, checkpoint.config, checkpoint.source)


def adapt_to_config(spec: ModelSpec, config: Mapping[str, Any], source: Path) -> ModelSpec:
    """``spec`` with the layer-norm epsilon and position grid of a Hugging Face ``config.json``.

    Published folders keep the library's default epsilon of 1e-12 where the original has 1e-6.

    Raises:
        BadFileError: the configuration is of another network; the message names the key and both values.
    """
    encoder = spec.encoder
    if not isinstance(encoder, TransformerSpec):
        raise BadFileError(f"{source}: config.json is of a transformer; {spec.name!r} has none", hint=_HINT)
    found = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    expected = describe(spec, encoder)
    if found["num_hidden_layers"] == last_block(spec) + 1:  # a folder written by this program ends with the last tap
        expected["num_hidden_layers"] = found["num_hidden_layers"]
    _compare(expected, found, source, spec.name)
    backbone = found.get("backbone_config")
    if isinstance(encoder, HybridSpec) and isinstance(backbone, dict):
        _compare(describe_bit(encoder), _bit_found(backbone, len(encoder.stage_blocks)), source, spec.name)
    eps = found["layer_norm_eps"]
    if not isinstance(eps, float | int) or isinstance(eps, bool):
        raise BadFileError(f"{source}: config.json has layer_norm_eps = {eps!r}; expected a number", hint=_HINT)
    grid = _grid(found["image_size"], encoder.patch, source)
    return replace(spec, encoder=replace(encoder, norm_eps=float(eps), grid=grid))


_HINT = "choose the --backbone (and --task) that the folder was made for"


def last_block(spec: ModelSpec) -> int:
    """The last transformer block that is tapped; -1 where none is."""
    return max((tap for tap in spec.taps if isinstance(tap, int)), default=-1)


def _bit_found(config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    found = {**_BIT_DEFAULTS, **config}
    found["global_padding"] = str(found["global_padding"]).lower()
    for key in ("hidden_sizes", "depths"):  # those of stages that are not built do not count
        found[key] = found[key][:stages] if isinstance(found[key], list) else found[key]
    return found


def _grid(size: Any, patch: int, source: Path) -> int:
    """Side of the position table, in patches."""
    sides = size if isinstance(size, list) and size else [size]
    if not isinstance(sides[0], int) or len(set(sides)) != 1 or sides[0] % patch:
        raise BadFileError(
            f"{source}: config.json has image_size = {size!r}; expected a square of {patch}-pixel patches", hint=_HINT
        )
    return int(sides[0] // patch)


def _compare(expected: Mapping[str, Any], found: Mapping[str, Any], source: Path, name: str) -> None:
    for key, value in expected.items():
        if key not in _FREE and found.get(key) != value:
            raise BadFileError(
                f"{source}: config.json has {key} = {found.get(key)!r}; {name!r} has {value!r}",
                hint=_HINT,
            )


def describe(spec: ModelSpec, encoder: TransformerSpec) -> dict[str, Any]:
    """The keys of ``config.json`` that fix the network, in Hugging Face's terms."""
    return {
        "model_type": "dpt",
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "hidden_act": "gelu",
        "layer_norm_eps": encoder.norm_eps,
        "image_size": encoder.grid * encoder.patch,
        "patch_size": encoder.patch,
        "num_channels": 3,
        "is_hybrid": isinstance(encoder, HybridSpec),
        "qkv_bias": True,
        # Of a hybrid the first two entries are placeholders for the stages.
        "backbone_out_indices": [tap if isinstance(tap, int) else level for level, tap in enumerate(spec.taps)],
        "readout_type": spec.readout,
        "reassemble_factors": [
            1 if isinstance(tap, str) else _whole(encoder.patch / stride)
            for tap, stride in zip(spec.taps, encoder.strides, strict=True)
        ],
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": spec.task == "segmentation",
        "add_projection": False,
    }


def _whole(value: float) -> float:
    """Without a decimal point where it needs none, as the library's own files have it."""
    return int(value) if value == int(value) else value


def describe_bit(encoder: HybridSpec) -> dict[str, Any]:
    """The keys of the hybrid's ``backbone_config``."""
    return {
        "model_type": "bit",
        "embedding_size": encoder.stem_channels,
        "hidden_sizes": list(encoder.stage_channels),
        "depths": list(encoder.stage_blocks),
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "num_groups": 32,
        "width_factor": 1,
    }


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


def _decoder() -> list[Rule]:
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
        rules=(*_encoder(), *_decoder(), *head_rules("head.head", task)),
        unused=(
            COUNTER,
            ("neck.fusion_stage.layers.0.residual_layer1.{x}", "unit for a skip that the coarsest block does not have"),
            ("dpt.layernorm.{x}", "the taps are read before the final norm"),
            ("dpt.pooler.{x}", "pooled token of a classifier"),
            ("auxiliary_head.{x}", "auxiliary head of training"),
        ),
        image=IMAGE,
        adapt=_adapt,
        layout="huggingface",
    )


BY_TASK: dict[ModelTask, Family] = {"segmentation": _family("segmentation"), "depth": _family("depth")}
FAMILIES = tuple(BY_TASK.values())
