"""Depth heads on a frozen DINOv2 (Oquab et al. 2023, §7.4), in the folders of Hugging Face's ``facebook/dpt-dinov2-*``.

The authors' own files hold a head without its encoder, under other names; they are not read.
"""

from __future__ import annotations

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.families.backbone_config import adapt_to_backbone
from dpt_deploy.model.families.depth_anything import dinov2_folder_rules
from dpt_deploy.model.families.family import CheckpointDescription, Family, Rule
from dpt_deploy.model.families.huggingface import NO_SKIP, decoder_rules
from dpt_deploy.model.families.shared import head_rules


def _adapt(spec: ModelSpec, checkpoint: CheckpointDescription) -> ModelSpec:
    return spec if checkpoint.config is None else adapt_to_backbone(spec, checkpoint.config, checkpoint.source)


FOLDER = Family(
    "Hugging Face DPT on DINOv2",
    "depth",
    marks=(
        "backbone.encoder.layer.{n}.layer_scale1.lambda1",
        "neck.reassemble_stage.readout_projects.{n}.{x}",
        "head.projection.{x}",
    ),
    rules=(
        *(rule for rule in dinov2_folder_rules() if not rule.ours.startswith("encoder.norm.")),
        *decoder_rules(),
        Rule("head.projection.{x}", "head.projection.{x}"),
        *head_rules("head.head", "depth"),
    ),
    unused=(
        NO_SKIP,
        ("backbone.embeddings.mask_token", "token of masked patches in pre-training"),
        ("backbone.layernorm.{x}", "the taps are read before the final norm"),
    ),
    licence="Apache-2.0",
    adapt=_adapt,
)
FAMILIES = (FOLDER,)
