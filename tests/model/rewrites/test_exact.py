"""Every exact rewrite alone: it fires, it changes no number beyond rounding, and it leaves the reference alone."""

import copy
from collections import Counter

import pytest
import torch
from support import oracles
from support.tiny import TINY, tiny_model, tiny_spec
from timm.layers import StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.jobs.common.samples import normalised, structured_images
from dpt_deploy.model.build import build
from dpt_deploy.model.encoders.hybrid import SumStdConv2dSame
from dpt_deploy.model.encoders.vit import PositionEmbedding
from dpt_deploy.model.fusion import Fusion
from dpt_deploy.model.reassemble import ProjectReadout, Reassemble
from dpt_deploy.model.rewrites import exact as deploy
from dpt_deploy.model.rewrites.batch_norm import fold_behind

FLOAT32, FLOAT64 = 1e-5, 1e-12
HALF = (0.5, 0.5, 0.5)


def image(height, width, dtype=torch.float32):
    return torch.from_numpy(normalised(structured_images(2, height, width), HALF, HALF)).to(dtype)


def of_range(candidate, reference):
    return float((candidate - reference).abs().max() / (reference.max() - reference.min()))


def copy_of(name, dtype=torch.float32):
    return copy.deepcopy(tiny_model(name)).to(dtype)


def rewrite_only(model, kind):
    """``model`` with the modules of one ``kind`` alone rewritten (in place), and how many there were."""
    sites = [
        (parent, name) for parent in model.modules() for name, child in parent.named_children() if type(child) is kind
    ]
    for parent, name in sites:
        setattr(parent, name, deploy._rewritten(getattr(parent, name)))
    return len(sites)


def fold_norms_only(model):
    before = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for module in list(model.modules()):
        fold_behind(module)
    return before - sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


REWRITES = [  # (network, what is rewritten, how often it stands in the network)
    ("tiny-vit", PositionEmbedding, 1),
    ("tiny-vit", Reassemble, 4),
    ("tiny-vit", Fusion, 4),
    ("tiny-distilled", Reassemble, 4),
    ("tiny-distilled", PositionEmbedding, 1),
    ("tiny-hybrid", StdConv2dSame, 13),
    ("tiny-hybrid", MaxPool2dSame, 1),
    ("tiny-hybrid", Reassemble, 2),
    ("tiny-conv", nn.BatchNorm2d, 20),
    ("tiny-seg", nn.BatchNorm2d, 15),
    ("tiny-midas", Fusion, 4),
]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FLOAT32), (torch.float64, FLOAT64)], ids=["f32", "f64"])
@pytest.mark.parametrize(("name", "kind", "count"), REWRITES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_each_rewrite_alone_fires_and_is_neutral(name, kind, count, dtype, bound):
    model, x = copy_of(name, dtype), image(64, 96, dtype)
    reference = model(x)
    fired = fold_norms_only(model) if kind is nn.BatchNorm2d else rewrite_only(model, kind)
    assert fired == count
    assert of_range(model(x), reference) <= bound


@pytest.mark.parametrize("kind", ["ignore", "add", "project"])
@pytest.mark.parametrize("leading", [1, 2])
def test_every_readout_survives_the_rewriting(kind, leading):
    block = Reassemble(kind, leading, 12, 5, 8).double().requires_grad_(False)
    tokens = torch.randn((2, leading + 6, 12), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = deploy.DeployedReassemble(block).double()(tokens, 2, 3)
    assert of_range(found, block(tokens, 2, 3)) <= FLOAT64


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (160, 96)], ids=str)
@pytest.mark.parametrize("name", TINY)
def test_all_rewrites_together_are_neutral(name, size):
    model = tiny_model(name)
    assert of_range(deploy.deployable(model)(image(*size)), model(image(*size))) <= FLOAT32


def test_a_wrong_rewrite_is_noticed():
    model, x = copy_of("tiny-vit"), image(64, 96)
    reference = model(x)
    rewrite_only(model, Reassemble)
    model.reassemble[0].readout.image.weight.zero_()  # the per-image half of the split projection, lost
    assert of_range(model(x), reference) > 100 * FLOAT32


def kinds(model):
    return Counter(type(module) for module in model.modules())


@pytest.mark.parametrize("name", TINY)
def test_nothing_rewritable_is_left_over(name):
    left = kinds(deploy.deployable(tiny_model(name)))
    rewritten = (nn.BatchNorm2d, StdConv2dSame, MaxPool2dSame, PositionEmbedding, Reassemble, ProjectReadout, Fusion)
    assert not [kind for kind in rewritten if left[kind]]


# --- the reference stays as it is, and is not copied ------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_the_reference_is_untouched(name):
    model = copy_of(name)
    before, structure = {key: value.clone() for key, value in model.state_dict().items()}, str(model)
    deploy.deployable(model)(image(64, 64))
    after = model.state_dict()
    assert str(model) == structure
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid"])
def test_tensors_that_do_not_change_are_shared(name):
    model = tiny_model(name)
    rewritten = deploy.deployable(model)
    theirs = {tensor.data_ptr() for tensor in model.state_dict().values()}
    copied = sum(tensor.numel() for tensor in rewritten.state_dict().values() if tensor.data_ptr() not in theirs)
    changed = (StdConv2dSame, ProjectReadout, PositionEmbedding)
    expected = sum(p.numel() for m in model.modules() if isinstance(m, changed) for p in m.parameters())
    assert 0 < copied <= expected
    kept = "encoder.blocks.0.attn.qkv.weight"
    assert rewritten.state_dict()[kept].data_ptr() == model.state_dict()[kept].data_ptr()


# --- fewer operations -------------------------------------------------------------------------------------------------


def operations(model, side=384):
    with FlopCounterMode(display=False) as counter:
        model(torch.empty((1, 3, side, side), device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize(("name", "saved"), [("base", 0.03), ("hybrid", 0.02), ("large", 0.018), ("resnet50", 0.03)])
def test_the_rewritten_network_needs_fewer_operations(name, saved):
    model = build(load_recipe(name).model)
    assert operations(deploy.deployable(model)) <= (1 - saved) * operations(model)


def test_a_network_without_rewrites_saves_nothing():
    model = build(tiny_spec("tiny-midas"))  # it has no 1x1 convolution after its upsampling, and no read-out
    assert operations(deploy.deployable(model)) == operations(model)


# --- padding and weight standardisation -------------------------------------------------------------------------------


def convolution(kernel, stride, form="sqrt"):
    kind = StdConv2dSame if form == "sqrt" else SumStdConv2dSame
    conv = kind(3, 8, kernel, stride=stride, eps=1e-8, padding="same").double().requires_grad_(False)
    conv.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(kernel))
    return conv


@pytest.mark.parametrize("side", [32, 96, 160, 224, 64], ids=lambda side: f"32x{side // 32}")
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (1, 2), (3, 1), (1, 1)])
def test_same_padding_is_static_at_every_legal_size(kernel, stride, side):
    conv = convolution(kernel, stride)
    for depth in (1, 2, 4):  # the sizes at the stem and inside the stages of an image with sides 32 * k
        x = torch.randn((1, 3, 64 // depth, side // depth), dtype=torch.float64)
        weight = torch.from_numpy(oracles.standardised(conv.weight.numpy(), "sqrt"))
        expected = nn.functional.conv2d(oracles.same_padded(x, kernel, stride), weight, stride=stride)
        found = deploy.fold_weight_standardisation(conv)(x)
        assert found.shape == expected.shape
        assert of_range(found, expected) <= FLOAT64


def test_static_padding_of_an_odd_size_would_be_wrong():
    conv, x = convolution(3, 2), torch.randn((1, 3, 33, 33), dtype=torch.float64)
    assert deploy.fold_weight_standardisation(conv)(x).shape != conv(x).shape


@pytest.mark.parametrize("form", ["sqrt", "sum"])
def test_weight_standardisation_is_folded_in_its_own_form(form):
    conv = convolution(3, 1, form).float()
    conv.weight.mul_(1e-3)  # so that the two forms part
    folded = deploy.fold_weight_standardisation(conv).weight
    expected = {kind: torch.from_numpy(oracles.standardised(conv.weight.numpy(), kind)) for kind in ("sqrt", "sum")}
    right = expected.pop(form)
    (wrong,) = expected.values()
    assert of_range(folded, right) < 1e-6
    assert of_range(folded, wrong) > 1e-3


def test_folding_in_float32_would_lose_digits():
    conv = convolution(7, 1).float()
    conv.weight.add_(10.0)  # a mean far above the spread: the difference of large numbers
    exact = torch.from_numpy(oracles.standardised(conv.weight.numpy(), "sqrt"))
    variance, mean = torch.var_mean(conv.weight, dim=(1, 2, 3), keepdim=True, correction=0)
    assert of_range(deploy.fold_weight_standardisation(conv).weight, exact) < 1e-7
    assert of_range((conv.weight - mean) / (variance + 1e-8).sqrt(), exact) > 1e-7


# --- wrappers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [(HALF, HALF), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))], ids=["half", "imagenet"]
)
def test_bytes_are_normalised_inside_the_graph_as_outside(rule):
    mean, std = rule
    pixels = structured_images(2, 32, 64)
    spec = ImageSpec(32, 64, "minimal", mean, std)
    inside = deploy.Uint8Input(nn.Identity(), spec)(torch.from_numpy(pixels))
    assert (inside - torch.from_numpy(normalised(pixels, mean, std))).abs().max() < 1e-6


def test_labels_are_the_most_likely_classes_counted_from_zero():
    model = tiny_model("tiny-seg")
    labels = deploy.LabelsOutput(model)(image(64, 64))
    assert labels.dtype == torch.int32
    assert torch.equal(labels.long(), model(image(64, 64)).argmax(1))
