"""Specifications of the smallest networks, for tests of keys, configurations and sidecars."""

from __future__ import annotations

from dataclasses import replace

from dpt_deploy.core.encoders import HybridSpec, ViTSpec
from dpt_deploy.core.spec import ModelSpec

SMALL_VIT = ModelSpec(
    name="tiny",
    task="depth",
    encoder=ViTSpec(width=32, depth=4, heads=2, grid=4),
    taps=(0, 1, 2, 3),
    readout="project",
    reassemble_channels=(8, 12, 16, 20),
    fusion_channels=16,
)
SMALL_HYBRID = replace(
    SMALL_VIT,
    name="tiny-hybrid",
    encoder=HybridSpec(
        width=32, depth=4, heads=2, grid=4, stem_channels=32, stage_blocks=(1, 2, 1), stage_channels=(128, 256, 128)
    ),
    taps=("stage0", "stage1", 1, 3),
    reassemble_channels=(128, 256, 24, 28),
)
