"""Batch norms are folded exactly, in front of layers and behind them."""

import pytest
import torch
from support.midas_networks import distance, randomise
from torch import nn

from dpt_deploy.model.encoders.nextvit import PooledAttention
from dpt_deploy.model.encoders.norms import HasPreNorms, LinearNorm
from dpt_deploy.model.rewrites.batch_norm import affine_of, fold_behind, fold_in_front, folded_linear

TIGHT = 1e-6


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


class Named(nn.Module):
    """A norm in front of a layer."""

    pre_norms = (("norm", ("layer",)),)

    def __init__(self, norm, layer):
        super().__init__()
        self.norm, self.layer = norm, layer

    def forward(self, x):
        return self.layer(self.norm(x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(6, 5, 3, padding=1, bias=False), (2, 6, 7, 8)),
        (nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1, output_padding=1, bias=False), (2, 6, 4, 5)),
        (nn.ConvTranspose2d(6, 5, 3, stride=2, bias=True), (2, 6, 4, 5)),
    ],
    ids=["convolution", "transposed", "with a bias"],
)
def test_a_norm_behind_a_convolution(layer, shape):
    module = randomise(nn.Sequential(layer, nn.BatchNorm2d(5)))
    x = noise(*shape)
    expected = module(x)
    fold_behind(module)
    assert isinstance(module[1], nn.Identity)
    assert distance(module(x), expected) < TIGHT


def test_a_norm_behind_something_else_stays():
    module = randomise(nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), nn.BatchNorm2d(6)))
    fold_behind(module)
    assert isinstance(module[2], nn.BatchNorm2d)


def test_a_norm_over_tokens_behind_a_linear_layer():
    module, x = randomise(LinearNorm(6, 5)), noise(2, 9, 6)
    assert distance(folded_linear(module)(x), module(x)) < TIGHT


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_in_front_of_a_1x1_convolution(bias):
    module = randomise(Named(nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1, bias=bias)))
    assert isinstance(module, HasPreNorms)
    x, before = noise(2, 6, 7, 8), module.layer.weight.clone()
    expected, shared = module(x), module.layer.weight
    fold_in_front(module)
    assert isinstance(module.norm, nn.Identity)
    assert distance(module(x), expected) < TIGHT
    assert torch.equal(shared, before)  # tensors of the reference are left alone


def test_a_norm_in_front_of_padding_is_refused():
    module = randomise(Named(nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3, padding=1)))
    with pytest.raises(TypeError, match="layer is a Conv2d of 3x3"):
        fold_in_front(module)


def test_a_scaling_passes_through_an_average_of_whole_runs():
    attention = randomise(PooledAttention(16, 8, 4, 1e-5))
    scale, shift = (each.float() for each in affine_of(attention.norm))
    x = noise(2, 12, 16)
    averages = attention.sr(x.transpose(1, 2)).transpose(1, 2)
    assert distance(attention.sr((x * scale + shift).transpose(1, 2)).transpose(1, 2), averages * scale + shift) < TIGHT
