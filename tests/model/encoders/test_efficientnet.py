"""EfficientNet-Lite against timm's: padding of TensorFlow, ReLU6, and its epsilon."""

import copy

import pytest
import timm
import torch
from support.midas_networks import distance, image, randomise
from torch import nn

from dpt_deploy.core.encoders import EfficientNetSpec
from dpt_deploy.model.encoders.efficientnet import EfficientNetEncoder, SameConv2d
from dpt_deploy.model.rewrites.exact import deployable

LIMIT = 1e-5
TAPS = ("stage0", "stage1", "stage2", "stage3")


@pytest.fixture(scope="module")
def pair():
    """Ours, and timm's with the same values: entries correspond in order."""
    theirs = randomise(timm.create_model("tf_efficientnet_lite3", pretrained=False))
    ours = EfficientNetEncoder(EfficientNetSpec(), TAPS).requires_grad_(False).eval()
    values = [value for key, value in theirs.state_dict().items() if key.startswith(("conv_stem", "bn1", "blocks"))]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    return ours, theirs


def stages(theirs, x):
    x, found = theirs.bn1(theirs.conv_stem(x)), []
    for index, block in enumerate(theirs.blocks):
        x = block(x)
        if index in (1, 2, 4, 6):
            found.append(x)
    return found


@pytest.mark.parametrize(("height", "width", "batch"), [(32, 32, 3), (64, 96, 1), (96, 32, 2)])
def test_the_stages_equal_timm_s(pair, height, width, batch):
    ours, theirs = pair
    x = image(height, width, batch)
    for found, rewritten, wanted in zip(ours(x), deployable(ours)(x), stages(theirs, x), strict=True):
        assert distance(found, wanted) < LIMIT
        assert distance(rewritten, wanted) < LIMIT


def test_odd_maps_are_padded_by_the_same_rule(pair):
    ours, theirs = pair
    x = image(50, 75, 1)
    for found, wanted in zip(ours(x), stages(theirs, x), strict=True):
        assert found.shape == wanted.shape
        assert distance(found, wanted) < LIMIT


@pytest.mark.parametrize("fault", ["padding", "epsilon", "relu"])
def test_a_planted_fault_shows(pair, fault, monkeypatch):
    ours, theirs = pair
    wrong, x = copy.deepcopy(ours), 20 * image(64, 64, 1)  # so large that ReLU6 cuts
    for module in wrong.modules():
        if fault == "padding" and isinstance(module, SameConv2d):
            module.padding = (module.kernel_size[0] // 2,) * 2
            module.forward = lambda x, conv=module: nn.Conv2d.forward(conv, x)
        if fault == "epsilon" and isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    if fault == "relu":
        monkeypatch.setattr("dpt_deploy.model.encoders.efficientnet.F.relu6", torch.relu)
    expected = stages(theirs, x)
    assert max(distance(found, wanted) for found, wanted in zip(wrong(x), expected, strict=True)) > 20 * LIMIT
