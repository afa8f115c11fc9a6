"""MiDaS 3.1 with Next-ViT (isl-org/MiDaS and isl-org/Next-ViT): the encoder has the names of the published code."""

from __future__ import annotations

from dpt_deploy.model.families.dpt import IMAGE, LICENCE
from dpt_deploy.model.families.family import Family, Rule
from dpt_deploy.model.families.shared import ORIGINAL_UNUSED, original_decoder

FAMILIES = (
    Family(
        "isl-org/MiDaS 3.1 Next-ViT",
        "depth",
        marks=("pretrained.model.features.{n}.mhca.{x}", "scratch.refinenet4.{x}"),
        rules=(
            Rule("pretrained.model.stem.{x}", "encoder.stem.{x}"),
            Rule("pretrained.model.features.{n}.{x}", "encoder.blocks.{n}.{x}"),
            *original_decoder("depth"),
        ),
        unused=(*ORIGINAL_UNUSED, ("pretrained.model.proj_head.{x}", "ImageNet classifier")),
        licence=LICENCE,
        image=IMAGE,
    ),
)
