"""No weight is dead, no two networks share state, and random weights are what their documentation says."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.tiny import TINY, tiny_model, tiny_spec
from torch import nn

from dpt_deploy.jobs.common.samples import normalised, structured_images
from dpt_deploy.jobs.verify.compare import MIN_SPAN_RANDOM
from dpt_deploy.model import random_weights
from dpt_deploy.model.build import build
from dpt_deploy.model.heads import DepthHead
from dpt_deploy.model.random_weights import random_model

SIZES = ((96, 96), (64, 256), (256, 64), (192, 384))


def image(height, width, seed=0):
    pixels = structured_images(1, height, width, seed=seed)
    return torch.from_numpy(normalised(pixels, (0.5,) * 3, (0.5,) * 3))


# --- dead weights -----------------------------------------------------------------------------------------------------


def dead_parameters(model, x):
    """Names of the parameters on which the output does not depend."""
    model.requires_grad_(True)
    output = model(x)
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_influences_the_output(name):
    assert dead_parameters(random_model(tiny_spec(name)), image(64, 96)) == []


def test_a_weight_that_never_runs_is_found():
    model = random_model(tiny_spec("tiny-vit"))
    model.fusion[3].spare = nn.Conv2d(2, 2, 1)
    assert dead_parameters(model, image(64, 96)) == ["fusion.3.spare.weight", "fusion.3.spare.bias"]


def test_blocks_past_the_last_tap_are_not_built():
    names = [name for name, _ in build(tiny_spec("tiny-hybrid")).named_parameters()]
    assert {name.split(".")[2] for name in names if name.startswith("encoder.blocks.")} == {"0", "1"}
    assert not [name for name in names if name.startswith(("encoder.norm", "encoder.head"))]


# --- state ------------------------------------------------------------------------------------------------------------


def interferes(first, second, x):
    """Return True if a run of ``second`` (before, or at the same time) changes the result of ``first``."""
    with torch.inference_mode():
        alone = [first(x), second(x)]
        after = [first(x), second(x), first(x)]

    def run(index):
        with torch.inference_mode():
            return index % 2, (first, second)[index % 2](x)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(12)))
    pairs = [(alone[0], after[0]), (alone[0], after[2]), (alone[1], after[1])]
    pairs += [(alone[which], output) for which, output in together]
    return not all(torch.equal(left, right) for left, right in pairs)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-midas"])
def test_two_networks_share_no_state(name):
    first, second = tiny_model(name), tiny_model(name, seed=1)
    assert not interferes(first, second, image(64, 96))


class SharesActivations(nn.Module):
    """The original's way: hooks write the features of every network into one dictionary."""

    activations: dict[str, torch.Tensor] = {}  # noqa: RUF012  the defect under test

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        self.activations.setdefault("1", self.model(x))
        return self.activations["1"]


def test_shared_state_is_found():
    first, second = (SharesActivations(tiny_model("tiny-vit", seed)) for seed in (0, 1))
    with torch.inference_mode():
        right = tiny_model("tiny-vit", 1)(image(32, 32))
        first(image(32, 32))
        assert not torch.equal(second(image(32, 32)), right)


def test_running_a_network_changes_nothing_in_it():
    model = random_model(tiny_spec("tiny-seg"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(image(64, 96))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_the_input_is_left_as_it_was():
    x = image(64, 96)
    before = x.clone()
    for name in TINY:
        tiny_model(name)(x)
    assert torch.equal(x, before)


# --- random weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_the_same_network_and_another_seed_another(name):
    left, right, other = (random_model(tiny_spec(name), seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(left[key], right[key]) for key in left)
    drawn = [key for key in left if left[key].is_floating_point() and "running_mean" not in key]
    assert not [key for key in drawn if torch.equal(left[key], other[key])]


def test_each_tensor_has_its_own_stream_so_that_a_change_elsewhere_leaves_it_alone():
    spec = tiny_spec("tiny-vit")
    depth, scores = random_model(spec).state_dict(), random_model(spec.with_classes(7)).state_dict()
    shared = [key for key in depth if key in scores and key.startswith("encoder.")]
    assert shared
    assert all(torch.equal(depth[key], scores[key]) for key in shared)


def relative_span(output):
    return float((output.max() - output.min()) / output.abs().max())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", TINY)
def test_random_networks_span_half_of_their_largest_value(name, size):
    output = tiny_model(name)(image(*size))
    assert torch.isfinite(output).all()
    assert relative_span(output) >= 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", TINY)
def test_even_on_the_smallest_image_random_networks_are_never_flat(name, seed):
    spans = [relative_span(tiny_model(name, seed)(image(32, 32, image_seed))) for image_seed in range(4)]
    assert min(spans) >= MIN_SPAN_RANDOM


@pytest.mark.parametrize("name", [name for name in TINY if name != "tiny-seg"])
@pytest.mark.parametrize("seed", [0, 7])
def test_relu_of_the_depth_head_cuts_next_to_nothing(name, seed):
    model = tiny_model(name, seed)
    assert isinstance(model.head, DepthHead)
    seen = []
    with model.head.conv3.register_forward_hook(lambda _module, _inputs, output: seen.append(output.flatten())):
        for size in random_weights._PROBE_SIZES:
            model(random_weights._probe(*size, seed))
        spread, mean = torch.std_mean(torch.cat(seen))
        model(image(96, 128))
    assert mean >= 3 * spread
    assert (seen[-1] <= 0).float().mean() < 0.02


def test_torch_s_own_initialisation_may_be_all_zero():
    torch.manual_seed(2)
    model = build(tiny_spec("tiny-vit")).to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    nn.init.zeros_(model.encoder.prefix), nn.init.zeros_(model.encoder.position.table)
    assert not model(image(96, 96)).any()
