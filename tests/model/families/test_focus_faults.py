"""Each difference between FocusOnDepth and the paper's DPT, undone: the network must then disagree with the oracle."""

from copy import deepcopy
from dataclasses import replace
from unittest import mock

import pytest
import torch
from support import focus
from support.tiny import tiny_recipe, tiny_spec

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model import fusion
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.match import CheckpointMismatchError
from dpt_deploy.model.decoders import DECODERS
from dpt_deploy.model.fusion import ResidualConvUnit

pytestmark = pytest.mark.needs("torch")

LIMIT = 1e-5
NOTICEABLE = 1e-3
PIXELS = focus.image(1, 64, 128)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("focus") / "focus.p"
    torch.save(focus.as_saved(focus.drawn(focus.keys(**focus.TINY))), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_weights(spec(), checkpoint)[0]


@pytest.fixture(scope="module")
def wanted(checkpoint):
    return focus.forward(torch.load(checkpoint)["model_state_dict"], PIXELS)


def spec(**changes):
    return load_recipe(str(focus.RECIPE), task="both", model=changes).model


def gap(model, wanted):
    """The largest distance of an output, as a share of its range."""
    with torch.inference_mode():
        return focus.distances(model(PIXELS), wanted)


def units(model):
    return [module for module in model.modules() if isinstance(module, ResidualConvUnit)]


def usual_units(model):
    for unit in units(model):
        unit.inplace_quirk = False


def one_usual_unit(model):
    model.fusion[2].unit.inplace_quirk = False


def coarsest_without_its_first_unit(model):
    model.fusion[3].skip_unit = None


def no_sigmoid(model):
    model.head.activation = "relu"


def head_without_corners(model):
    model.head.align_corners = False


def scores_without_corners(model):
    model.joint.scores.align_corners = False


def taps_in_the_other_order(model):
    model.encoder.taps = tuple(reversed(model.encoder.taps))


def tap_behind_the_norm(model):
    model.encoder.blocks.append(torch.nn.LayerNorm(48))
    model.encoder.taps = (0, 1, 2, 4)


def tiled_positions(model):
    model.encoder.position.resize = "tiled"


def another_order_of_the_readout(model):
    for level in model.reassemble:
        weight = level.readout.project.weight
        level.readout.project.weight = torch.nn.Parameter(weight.roll(48, dims=1), requires_grad=False)


FAULTS = [
    usual_units,
    one_usual_unit,
    coarsest_without_its_first_unit,
    no_sigmoid,
    head_without_corners,
    scores_without_corners,
    taps_in_the_other_order,
    tap_behind_the_norm,
    tiled_positions,
    another_order_of_the_readout,
]


def test_without_a_fault_it_agrees(model, wanted):
    assert gap(deepcopy(model), wanted) <= LIMIT
    assert len(units(model)) == 8


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_a_part_is_seen(fault, model, wanted):
    changed = deepcopy(model)
    fault(changed)
    assert gap(changed, wanted) > NOTICEABLE


def test_fusion_without_corners_is_seen(model, wanted):
    with mock.patch.object(fusion, "upsample2", lambda x, **_: torch.nn.functional.interpolate(x, scale_factor=2.0)):
        assert gap(model, wanted) > NOTICEABLE


# Differences that show in the keys or shapes: such a decoder does not load the file at all.
FORMS = {
    "a neck": {"neck": True},
    "a 1x1 convolution behind fusion": {"projects": True},
    "a padded 3x3 convolution to the coarsest map": {"coarsens": 3},
    "no first unit in the coarsest block": {"refines_coarsest": False},
    "a decoder for each task": {"shared": False},
}


@pytest.mark.parametrize("name", FORMS)
def test_a_decoder_of_another_form_is_refused(name, checkpoint):
    form = replace(DECODERS["focus"], **FORMS[name])
    other = replace(spec(), name=f"focus with {name}")  # parameter shapes are kept by specification
    with mock.patch.dict(DECODERS, {"focus": form}), pytest.raises(CheckpointMismatchError):
        load_weights(other, checkpoint)


def test_the_paper_s_widths_are_refused(checkpoint):
    with pytest.raises(CheckpointMismatchError, match="of wrong shape"):
        load_weights(spec(reassemble_channels=[16, 24, 32, 48], decoder="dpt"), checkpoint)


def test_the_usual_decoder_with_the_same_keys_is_what_the_form_tells_apart():
    assert {build(spec()).fusion[0].unit.inplace_quirk, build(tiny_spec("tiny-vit")).fusion[0].unit.inplace_quirk} == {
        True,
        False,
    }
    assert tiny_recipe("tiny-focus").model.output_quantity == "relative depth"
