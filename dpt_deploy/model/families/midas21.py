"""MiDaS v2.1 (isl-org/MiDaS): a convolutional encoder under the decoder that DPT inherits."""

from __future__ import annotations

from dpt_deploy.model.families.family import Family, ImageRule, Rule
from dpt_deploy.model.families.shared import ORIGINAL_UNUSED, original_decoder

FAMILIES = (
    Family(
        "isl-org/MiDaS 2.1",
        "depth",
        marks=("pretrained.layer{n}.{x}", "scratch.refinenet{n}.{x}"),
        rules=(
            Rule("pretrained.layer1.0.{x}", "encoder.stem.conv1.{x}"),
            Rule("pretrained.layer1.1.{x}", "encoder.stem.bn1.{x}"),
            Rule("pretrained.layer1.4.{x}", "encoder.stages.0.{x}"),
            *(Rule(f"pretrained.layer{stage + 1}.{{x}}", f"encoder.stages.{stage}.{{x}}") for stage in (1, 2, 3)),
            *original_decoder("depth"),
        ),
        unused=ORIGINAL_UNUSED,
        licence="MIT",
        image=ImageRule("upper_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ),
)
