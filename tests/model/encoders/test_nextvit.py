"""Next-ViT against timm's, at sizes and statistics of its own."""

import copy

import pytest
import torch
from support.midas_networks import distance, image, randomise
from timm.models.nextvit import EfficientAttention, NextViT
from torch import nn

from dpt_deploy.core.encoders import NextViTSpec
from dpt_deploy.model.encoders.nextvit import NextViTEncoder, PooledAttention
from dpt_deploy.model.rewrites.exact import deployable

DEPTHS = (1, 2, 5, 2)  # channels are those of the published network: timm has them built in
LIMIT = 1e-5


@pytest.fixture(scope="module")
def pair():
    """Ours, and timm's with the same values: entries correspond in order."""
    theirs = randomise(NextViT(in_chans=3, depths=DEPTHS, num_classes=0))
    ours = NextViTEncoder(NextViTSpec(stage_blocks=DEPTHS), (0, 2, 7, 9)).requires_grad_(False).eval()
    values = [value for key, value in theirs.state_dict().items() if not key.startswith(("norm.", "head."))]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    return ours, theirs


@pytest.mark.parametrize(("height", "width", "batch"), [(32, 32, 3), (64, 96, 1), (96, 32, 2)])
def test_the_stages_equal_timm_s(pair, height, width, batch):
    ours, theirs = pair
    x = image(height, width, batch)
    expected = theirs.forward_intermediates(x, intermediates_only=True)
    for found, rewritten, wanted in zip(ours(x), deployable(ours)(x), expected, strict=True):
        assert distance(found, wanted) < LIMIT
        assert distance(rewritten, wanted) < LIMIT


@pytest.mark.parametrize("name", ["blocks.0.norm", "blocks.2.norm1", "blocks.2.e_mhsa.norm", "blocks.7.norm2"])
def test_a_batch_norm_that_is_skipped_shows(pair, name):
    """The published code leaves them out of every export."""
    ours, theirs = pair
    x = image(64, 64, 1)
    wrong = copy.deepcopy(ours)
    parent, _, leaf = name.rpartition(".")
    setattr(wrong.get_submodule(parent), leaf, nn.Identity())
    expected = theirs.forward_intermediates(x, intermediates_only=True)
    assert max(distance(found, wanted) for found, wanted in zip(wrong(x), expected, strict=True)) > 100 * LIMIT


@pytest.mark.parametrize("tokens", [48, 50, 63])
def test_tokens_that_fill_no_run_are_dropped(tokens):
    theirs = randomise(EfficientAttention(64, head_dim=32, sr_ratio=4))
    ours = PooledAttention(64, 32, 16, 1e-5).requires_grad_(False).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn((2, tokens, 64), generator=torch.Generator().manual_seed(0))
    assert distance(ours(x), theirs(x)) < LIMIT
    ours.sr = nn.AvgPool1d(16, stride=16, ceil_mode=True)
    assert (distance(ours(x), theirs(x)) > 100 * LIMIT) == (tokens % 16 > 0)


def test_blocks_after_the_last_tap_are_not_built(pair):
    assert len(pair[0].blocks) == 10
    assert len(NextViTEncoder(NextViTSpec(stage_blocks=DEPTHS), (0, 2)).blocks) == 3
