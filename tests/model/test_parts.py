"""Each block of the network against its formula (oracles in support.oracles)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import oracles
from support.tiny import TINY, tiny_model, tiny_spec
from torch.overrides import TorchFunctionMode

from dpt_deploy.core.encoders import HybridSpec, ViTSpec
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.spec import MetricTail
from dpt_deploy.model.decoders import DECODERS, DecoderForm
from dpt_deploy.model.encoders.hybrid import ConvStages
from dpt_deploy.model.encoders.vit import PositionEmbedding, ViTEncoder
from dpt_deploy.model.fusion import Fusion, ResidualConvUnit
from dpt_deploy.model.heads import MetricDepth
from dpt_deploy.model.initial import fresh_model
from dpt_deploy.model.reassemble import make_readout

DOUBLE = 1e-12
WIDTH = 5


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randomised(module, seed=0):
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=100 * seed + index + 1))
    return module.double().requires_grad_(False).eval()


# --- read-out ---------------------------------------------------------------------------------------------------------


def expected_readout(kind, tokens, leading, readout):
    if kind == "project":
        linear = readout.project
        return oracles.read_project(tokens.numpy(), leading, linear.weight.numpy(), linear.bias.numpy())
    return {"ignore": oracles.read_ignore, "add": oracles.read_add}[kind](tokens.numpy(), leading)


@pytest.mark.parametrize("leading", [1, 2])
@pytest.mark.parametrize("kind", ["ignore", "add", "project"])
def test_readout_equals_the_paper_s_formula(kind, leading):
    readout = randomised(make_readout(kind, leading, WIDTH))
    tokens = noise(2, leading + 6, WIDTH, seed=9)
    assert np.abs(readout(tokens).numpy() - expected_readout(kind, tokens, leading, readout)).max() < DOUBLE


@pytest.mark.parametrize(
    ("kind", "matters"), [("ignore", (False, False)), ("add", (True, True)), ("project", (True, False))]
)
def test_which_of_two_leading_tokens_matter(kind, matters):
    readout = randomised(make_readout(kind, 2, WIDTH))
    tokens = noise(1, 2 + 4, WIDTH)
    for index, expected in enumerate(matters):
        changed = tokens.clone()
        changed[:, index] += 1.0
        assert bool((readout(changed) != readout(tokens)).any()) is expected


def test_the_tanh_form_of_gelu_would_be_noticed():
    readout = randomised(make_readout("project", 1, WIDTH))
    tokens = noise(2, 7, WIDTH)
    expected = expected_readout("project", tokens, 1, readout)
    readout.act = torch.nn.GELU(approximate="tanh")
    assert np.abs(readout(tokens).numpy() - expected).max() > 1e-4


# --- positions --------------------------------------------------------------------------------------------------------


def position_table(leading, grid=6):
    return randomised(PositionEmbedding(grid, WIDTH, leading))


@pytest.mark.parametrize("leading", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (8, 3), (12, 12), (7, 64)], ids=str)
def test_positions_are_resized_as_the_paper_says(size, leading):
    position = position_table(leading)
    prefix, grid = position(*size)
    table = position.table[0].numpy()
    expected = oracles.bilinear(table[leading:].reshape(6, 6, WIDTH), *size, align_corners=False)
    assert np.abs(grid[0].numpy() - expected.reshape(-1, WIDTH)).max() < DOUBLE
    np.testing.assert_array_equal(prefix[0].numpy(), table[:leading])


def test_positions_equal_torch_on_the_raw_table():
    position = position_table(1)
    raw = position.table[0, 1:].T.reshape(1, WIDTH, 6, 6)
    expected = F.interpolate(raw, size=(9, 4), mode="bilinear", align_corners=False)
    assert torch.equal(position(9, 4)[1][0].T.reshape(1, WIDTH, 9, 4), expected)


def test_positions_at_the_training_grid_are_the_table_itself():
    position = position_table(2).float()
    assert torch.equal(torch.cat(position(6, 6), dim=1), position.table)


def test_a_transposed_or_corner_aligned_table_would_be_noticed():
    table = position_table(1).table[0, 1:].numpy().reshape(6, 6, WIDTH)
    right = oracles.bilinear(table, 9, 4, align_corners=False)
    assert np.abs(oracles.bilinear(table.swapaxes(0, 1), 9, 4, align_corners=False) - right).max() > 0.1
    assert np.abs(oracles.bilinear(table, 9, 4, align_corners=True) - right).max() > 0.1


def test_positions_begin_as_waves_that_tell_patches_apart_and_as_loud_as_those():
    model = fresh_model(tiny_spec("tiny-vit"), seed=1)
    encoder = model.encoder
    table = encoder.position.table[0].detach()
    leading, grid = table[: encoder.position.prefix_tokens], table[encoder.position.prefix_tokens :]
    assert not leading.any()
    apart = torch.cdist(grid, grid) + torch.eye(len(grid)) * 1e9
    neighbours = [(int(a), int(b)) for a, b in enumerate(apart.argmin(dim=1))]
    side = encoder.position.grid
    assert all(abs(a // side - b // side) + abs(a % side - b % side) == 1 for a, b in neighbours)
    patches, _ = encoder.embed(torch.randn(1, 3, 64, 64).clamp(-1, 1))
    assert 0.3 < grid.std() / patches.std() < 3


@pytest.mark.parametrize("leading", [1, 2])
def test_leading_tokens_stand_first_and_take_the_first_rows_of_the_table(leading):
    spec = ViTSpec(width=6, depth=1, heads=2, grid=2, prefix_tokens=leading)
    encoder = randomised(ViTEncoder(spec, (0,)))
    seen = []
    encoder.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    encoder(noise(3, 3, 32, 32))
    expected = encoder.prefix[0] + encoder.position.table[0, :leading]
    assert seen[0].shape == (3, leading + 4, 6)
    assert torch.equal(seen[0][:, :leading], expected.expand(3, -1, -1))


# --- the convolutional half of the hybrid encoder ---------------------------------------------------------------------


def stages(form):
    spec = HybridSpec(
        width=48,
        depth=1,
        heads=3,
        stem_channels=32,
        stage_blocks=(1,),
        stage_channels=(128,),
        weight_standardisation=form,
    )
    return randomised(ConvStages(spec))


@pytest.mark.parametrize("form", ["sqrt", "sum"])
@pytest.mark.parametrize("side", [32, 96])
def test_stem_convolution_standardises_its_weights_and_pads_as_tensorflow_does(form, side):
    conv, x = stages(form).stem.conv, noise(1, 3, side, 64)
    weight = torch.from_numpy(oracles.standardised(conv.weight.numpy(), form))
    expected = F.conv2d(oracles.same_padded(x, 7, 2), weight, stride=2)
    assert (conv(x) - expected).abs().max() < 1e-10 * expected.abs().max()


def test_the_two_forms_of_weight_standardisation_differ():
    x = noise(1, 3, 32, 32)
    small = [stages(form) for form in ("sqrt", "sum")]
    for network in small:
        network.stem.conv.weight.mul_(1e-2)
    left, right = (network.stem.conv(x) for network in small)
    assert 1e-6 < (left - right).abs().max() / left.abs().max() < 1e-2


def test_stem_pool_ignores_what_lies_outside_the_image():
    pool, x = stages("sqrt").stem.pool, noise(1, 32, 16, 48) - 10.0  # below zero, so that a padding of zeros would win
    expected = F.max_pool2d(oracles.same_padded(x, 3, 2, value=-torch.inf), 3, stride=2)
    assert torch.equal(pool(x), expected)


# --- fusion and heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", [False, True], ids=["dpt", "midas21"])
def test_residual_unit_equals_one_around_literal_relu_modules(quirk):
    unit = randomised(ResidualConvUnit(4, DecoderForm(in_place=quirk), batch_norm=False))
    x = noise(2, 4, 6, 8)
    right, wrong = (oracles.residual_unit(x, unit.conv1, unit.conv2, in_place=flag) for flag in (quirk, not quirk))
    assert (unit(x) - right).abs().max() < DOUBLE
    assert (unit(x) - wrong).abs().max() > 0.1


def test_midas_21_shortcut_and_output_differ_from_dpt_s():
    kinds = {name: Fusion(4, 4, DECODERS[name], batch_norm=False, has_skip=True) for name in ("dpt", "midas21")}
    assert [kind.unit.inplace_quirk for kind in kinds.values()] == [False, True]
    assert isinstance(kinds["midas21"].out_conv, torch.nn.Identity)
    assert isinstance(kinds["dpt"].out_conv, torch.nn.Conv2d)


def test_fusion_upsamples_with_aligned_corners_before_its_projection():
    block = randomised(Fusion(4, 4, DECODERS["dpt"], batch_norm=False, has_skip=True))
    path, skip = noise(1, 4, 3, 5), noise(1, 4, 3, 5, seed=1)
    unit = block.unit(path + block.skip_unit(skip))[0].permute(1, 2, 0).numpy()
    large = torch.from_numpy(oracles.bilinear(unit, 6, 10, align_corners=True)).permute(2, 0, 1)[None]
    assert (block(path, skip) - block.out_conv(large)).abs().max() < DOUBLE


class Interpolations(TorchFunctionMode):
    """Records how every interpolation inside the block is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.interpolate:
            self.calls.append((kwargs["mode"], bool(kwargs["align_corners"])))
        return function(*args, **kwargs)


ALIGNED, HALF_PIXEL = ("bilinear", True), ("bilinear", False)
CORNERS = {  # In execution order: positions, the four fusion blocks, the head
    "tiny-vit": [HALF_PIXEL, *[ALIGNED] * 4, ALIGNED],
    "tiny-distilled": [HALF_PIXEL, *[ALIGNED] * 4, ALIGNED],
    "tiny-hybrid": [HALF_PIXEL, *[ALIGNED] * 4, ALIGNED],
    "tiny-metric": [HALF_PIXEL, *[ALIGNED] * 4, ALIGNED],
    "tiny-seg": [HALF_PIXEL, *[ALIGNED] * 4, ALIGNED],
    "tiny-conv": [*[ALIGNED] * 4, ALIGNED],
    "tiny-midas": [*[ALIGNED] * 4, HALF_PIXEL],
}


@pytest.mark.parametrize("name", TINY)
def test_every_interpolation_has_the_corner_rule_of_the_original(name):
    model = tiny_model(name)
    with Interpolations() as seen, torch.no_grad():
        model(torch.zeros(1, 3, 64, 96))
    assert seen.calls == CORNERS[name]


TAILS = {name: load_recipe(f"hybrid-{name}").model.metric for name in ("kitti", "nyu")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("data", TAILS)
def test_metric_tail_equals_the_formula_and_is_float32_whatever_comes_in(data, dtype):
    tail = TAILS[data]
    inverse = torch.linspace(0, 12000, 97).reshape(1, 1, 97).to(dtype)
    depth = MetricDepth(tail)(inverse)
    expected = oracles.metric_depth(inverse.double().numpy(), tail.scale, tail.shift)
    assert depth.dtype == torch.float32
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-6)


def test_metric_tail_in_half_precision_would_be_noticed():
    tail, inverse = TAILS["kitti"], torch.linspace(0, 12000, 97).half()
    half = 1 / (torch.tensor(tail.scale).half() * inverse + torch.tensor(tail.shift).half())
    expected = oracles.metric_depth(inverse.numpy(), tail.scale, tail.shift)
    assert np.abs(half.double().numpy() / expected - 1).max() > 1e-4


def test_metric_tail_reaches_the_largest_depths_of_the_papers_models_and_never_divides_by_zero():
    depths = [float(MetricDepth(tail)(torch.zeros(1))) for tail in TAILS.values()]
    assert depths == pytest.approx([172.71, 7.257], rel=1e-4)
    assert float(MetricDepth(MetricTail(1.0, 0.0, 1.0))(torch.zeros(1))) == pytest.approx(1e8)
    assert tiny_spec("tiny-metric").metric == TAILS["kitti"]
