"""Next-ViT as data: its blocks, and numbers that describe no network."""

from dataclasses import replace

import pytest

from dpt_deploy.core.encoders import NextViTSpec
from dpt_deploy.core.recipe import load_recipe

pytestmark = pytest.mark.fast

SPEC = NextViTSpec()


def test_transformer_blocks_end_their_groups():
    found = [index for index in range(SPEC.blocks) if SPEC.is_transformer(index)]
    assert found == [6, 11, 16, 21, 26, 31, 36, 39]
    assert [SPEC.attention_channels(stage) for stage in (1, 2, 3)] == [192, 384, 768]


def test_blocks_return_maps_of_their_stage():
    assert [SPEC.map_of(block) for block in (0, 2, 3, 6, 7, 36, 39)] == [
        (4, 96),
        (4, 96),
        (8, 192),
        (8, 256),
        (16, 384),
        (16, 512),
        (32, 1024),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stage_blocks": (3, 4, 30)}, "another number than four"),
        ({"group": 4}, "30 blocks in groups of 4"),
        ({"conv_channels": (96, 192, 384, 760)}, "760 channels in heads of 32"),
        ({"stage_channels": (96, 64, 512, 1024)}, "none is left to convolve"),
        ({"stage_blocks": (3, 4, 1000, 3)}, "1010 blocks"),
    ],
)
def test_what_no_network_can_be_built_from(change, problem):
    assert not list(SPEC.problems())
    assert any(problem in text for text, _hint in replace(SPEC, **change).problems())


@pytest.mark.parametrize(
    ("taps", "problem"),
    [
        ((2, 6, 36, 38), "38, a map at 1/32 resolution with 768"),
        ((2, 5, 36, 39), "5, a map at 1/8"),
        ((2, 7, 36, 39), "7"),
    ],
)
def test_a_tap_of_another_stage_or_width_is_named(taps, problem):
    model = replace(load_recipe("next-vit-large-384").model, taps=taps)
    assert any(problem in text for text, _hint in model.problems())
