"""The names that a network gives of itself: they exist, and mean what the rest of the program takes them for."""

import copy

import pytest
import torch
from support.tiny import TINY, tiny_model
from torch import nn

from dpt_deploy.model.rewrites.exact import deployable

LEVELS = [f"{part}.{level}" for part in ("reassemble", "neck", "fusion") for level in range(4)]
BLOCKS = [f"encoder.blocks.{index}" for index in range(4)]


def outputs(model, names):
    found = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: found.update({name: output}))
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    return found


@pytest.mark.parametrize("name", TINY)
def test_comparable_modules_compute_the_same_before_and_after_the_rewrites(name):
    names = tiny_model(name).landmarks.comparable
    model = copy.deepcopy(tiny_model(name))
    after, before = outputs(deployable(model), names), outputs(model, names)
    assert set(before) == set(after) == set(names)
    for module in names:
        assert float((before[module] - after[module]).abs().max()) <= 1e-4 * float(before[module].abs().max()), module


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("tiny-vit", BLOCKS),
        ("tiny-hybrid", [*(f"encoder.embed.backbone.stages.{index}" for index in range(3)), *BLOCKS[:2]]),
        ("tiny-conv", [f"encoder.stages.{index}" for index in range(4)]),
    ],
)
def test_comparable_modules_are_those_of_encoder_and_decoder_in_order(name, encoder):
    assert list(tiny_model(name).landmarks.comparable) == [*encoder, *LEVELS]


@pytest.mark.parametrize(
    ("name", "last", "fp32"),
    [
        ("tiny-vit", "head.conv3", {"head.conv3"}),
        ("tiny-metric", "head.conv3", {"head.conv3", "tail"}),
        ("tiny-seg", "head.classifier", set()),
    ],
)
def test_the_last_convolution_and_the_parts_that_need_fp32(name, last, fp32):
    model = tiny_model(name)
    assert model.landmarks.last == last
    assert isinstance(model.get_submodule(last), nn.Conv2d)
    assert set(model.landmarks.fp32) == fp32
    assert model.get_submodule(model.landmarks.penultimate) is model.fusion[1]
