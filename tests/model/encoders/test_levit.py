"""LeViT against timm's and transformers', with random statistics."""

import copy

import pytest
import timm
import torch
from support.midas_networks import distance, image, randomise
from torch import nn

from dpt_deploy.core.encoders import LeViTSpec
from dpt_deploy.model.encoders.levit import AttentionBias, LeViTEncoder
from dpt_deploy.model.rewrites.exact import deployable

LIMIT = 1e-5
WIDTHS = (128, 256, 384)  # LeViT-128S, the smallest published one
SPEC = LeViTSpec(stage_channels=WIDTHS, stage_blocks=(2, 3, 4), stage_heads=(4, 6, 8), key_width=16)
TAPS = (3, 11, 21)  # the last of each stage here


@pytest.fixture(scope="module")
def pair():
    """Ours, and timm's with the same values: entries correspond in order, but for the place of the biases."""
    theirs = randomise(timm.create_model("levit_128s", pretrained=False))
    ours = LeViTEncoder(SPEC, TAPS).requires_grad_(False).eval()
    biases, others = split(theirs)
    ours.load_state_dict({key: (biases if key.endswith("bias.table") else others).pop(0) for key in ours.state_dict()})
    assert not biases + others
    return ours, theirs


def split(model):
    """The biases of attention, and all other values of the body, each in order."""
    biases, others = [], []
    for key, value in model.state_dict().items():
        if not key.startswith("head") and "attention_bias_idxs" not in key:
            (biases if key.endswith(("attention_biases", "bias.table")) else others).append(value)
    return biases, others


def test_the_stages_equal_timm_s(pair):
    ours, theirs = pair
    x = image(224, 224, 3)
    tokens, expected = theirs.stem(x).flatten(2).transpose(1, 2), []
    for stage, grid in zip(theirs.stages, (14, 7, 4), strict=True):
        tokens = stage(tokens)
        expected.append(tokens.transpose(1, 2).unflatten(2, (grid, grid)))
    for found, rewritten, wanted in zip(ours(x), deployable(ours)(x), expected, strict=True):
        assert found.shape == wanted.shape
        assert distance(found, wanted) < LIMIT
        assert distance(rewritten, wanted) < LIMIT


def test_the_last_stage_equals_that_of_transformers(pair):
    transformers = pytest.importorskip("transformers", reason="transformers is an oracle (pip install -e '.[oracle]')")
    shapes = {"hidden_sizes": list(WIDTHS), "num_attention_heads": [4, 6, 8], "depths": [2, 3, 4]}
    theirs = (
        transformers.LevitModel(transformers.LevitConfig(**shapes, key_dim=[16, 16, 16])).requires_grad_(False).eval()
    )
    ours, _ = pair
    biases, others = split(ours)
    state = theirs.state_dict()
    for key in state:
        if "attention_bias_idxs" not in key:
            state[key] = (biases if key.endswith("attention_biases") else others).pop(0)
    theirs.load_state_dict(state)
    x = image(224, 224, 2)
    wanted = theirs(x).last_hidden_state.transpose(1, 2).unflatten(2, (4, 4))
    assert distance(ours(x)[-1], wanted) < LIMIT


class WrongBias(AttentionBias):
    """Offsets counted from the wrong end of the keys."""

    def forward(self):
        return super().forward().flip(-1)


@pytest.mark.parametrize("fault", ["norm", "bias", "scale"])
def test_a_planted_fault_shows(pair, fault):
    ours, _ = pair
    wrong, x = copy.deepcopy(ours), image(224, 224, 1)
    if fault == "norm":
        wrong.blocks[1].branch[0].norm = nn.Identity()
    elif fault == "bias":
        wrong.blocks[2].branch.bias.__class__ = WrongBias
    else:
        wrong.blocks[0].branch.heads = 2  # half as many, twice as wide
        wrong.blocks[0].branch.widths = (32, 32, 64)
        wrong.blocks[0].branch.bias.table = nn.Parameter(wrong.blocks[0].branch.bias.table[:2])
    wrong.requires_grad_(False)
    assert max(distance(found, wanted) for found, wanted in zip(wrong(x), ours(x), strict=True)) > 100 * LIMIT


def test_a_bias_belongs_to_an_offset_of_rows_and_columns():
    bias = AttentionBias(1, 3, stride=2)
    bias.table = nn.Parameter(torch.arange(9.0)[None])
    values = bias().detach().reshape(2, 2, 3, 3)  # queries at rows and columns 0 and 2
    assert values[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert values[1, 0].tolist() == [[6, 7, 8], [3, 4, 5], [0, 1, 2]]
