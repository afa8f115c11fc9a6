"""MiDaS 3.1 (isl-org/MiDaS) on BEiT, Swin V2 and Swin, in the keys of timm 0.6.12 that its checkpoints have."""

from __future__ import annotations

from dpt_deploy.model.families.dpt import IMAGE, LICENCE, main_reassemble
from dpt_deploy.model.families.family import Family, Rule
from dpt_deploy.model.families.shared import ORIGINAL_UNUSED, original_decoder

_MODEL, _BLOCK, _OURS = "pretrained.model", "pretrained.model.layers.{n}.blocks.{m}", "encoder.stages.{n}.blocks.{m}"

_UNUSED = (
    *ORIGINAL_UNUSED,
    ("{x}.attn.relative_position_index", "index of pairs, computed from the size"),
    ("{x}.attn.relative_coords_table", "offsets of pairs, computed from the window"),
    ("{x}.attn_mask", "mask of shifted windows, computed from the size"),
    ("pretrained.model.fc_norm.{x}", "norm of the ImageNet classifier"),
)


def _family(name: str, marks: tuple[str, ...], rules: list[Rule]) -> Family:
    return Family(
        f"isl-org/MiDaS 3.1 {name}",
        "depth",
        marks=(*marks, "scratch.refinenet{n}.{x}"),
        rules=(*rules, *original_decoder("depth")),
        unused=_UNUSED,
        licence=LICENCE,
        image=IMAGE,
    )


def _beit() -> list[Rule]:
    table = "attn.relative_position_bias_table"
    return [
        Rule(f"{_MODEL}.cls_token", "encoder.prefix"),
        Rule(f"{_MODEL}.patch_embed.{{x}}", "encoder.embed.{x}"),
        Rule(f"{_MODEL}.blocks.{{n}}.{table}", "encoder.blocks.{n}.attn.position.table"),
        Rule(f"{_MODEL}.blocks.{{n}}.{{x}}", "encoder.blocks.{n}.{x}"),
        *main_reassemble(),
    ]


def _windowed(scores: list[Rule]) -> list[Rule]:
    return [
        Rule(f"{_MODEL}.patch_embed.{{x}}", "encoder.embed.{x}"),
        *scores,
        Rule(f"{_BLOCK}.{{x}}", f"{_OURS}.{{x}}"),
        Rule(f"{_MODEL}.layers.{{n}}.downsample.{{x}}", "encoder.stages.{n}.merge.{x}"),
    ]


_SWIN = [Rule(f"{_BLOCK}.attn.relative_position_bias_table", f"{_OURS}.attn.scores.table")]
_SWIN2 = [
    Rule(f"{_BLOCK}.attn.logit_scale", f"{_OURS}.attn.scores.logit_scale"),
    Rule(f"{_BLOCK}.attn.cpb_mlp.{{x}}", f"{_OURS}.attn.scores.position.{{x}}"),
]

FAMILIES = (
    _family("BEiT", (f"{_MODEL}.blocks.{{n}}.attn.relative_position_bias_table",), _beit()),
    _family("Swin V2", (f"{_BLOCK}.attn.logit_scale",), _windowed(_SWIN2)),
    _family("Swin", (f"{_BLOCK}.attn.relative_position_bias_table",), _windowed(_SWIN)),
)
