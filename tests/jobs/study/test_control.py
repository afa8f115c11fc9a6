"""The planted defects: positions repeated or begun anew, the same at the training size and nowhere else."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.tiny import exported, tiny_model, tiny_path, tiny_recipe, tiny_spec

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.reference import reference_of, reference_outputs
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.study import models as study_models
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.load import load_weights, save_native
from dpt_deploy.model.encoders.vit import resize_grid
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.rewrites.exact import deployable

GRID = 6
PARTING = 74  # of a grid of 6: where the floating-point indices of PyTorch and ONNX Runtime differ


def grid(side=GRID):
    return torch.arange(2.0 * side * side).reshape(1, 2, side, side)


def recipe_of(folder, rule="nearest"):
    path = folder / f"{rule}.toml"
    path.write_text(f'base = "{tiny_path("tiny-vit")}"\n[model.encoder]\nposition_resize = "{rule}"\n')
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model with a weights file, as a candidate, and its control."""
    folder = tmp_path_factory.mktemp("control")
    save_native(tiny_model("tiny-vit"), folder / "weights.safetensors")
    arguments = (str(folder / "weights.safetensors"), ("ort",), ("fp32",), folder / "models")
    (original,) = study_models.candidates((tiny_path("tiny-vit"),), *arguments)
    return original, study_models.control_of(original, "nearest", folder / "models")


def output_of(candidate, size):
    images = structured_images(1, size.height, size.width)
    with candidate.runner() as runner:
        (output,) = runner.infer(model_inputs(candidate.artifact.sidecar, images)).values()
    return output


def expected_of(candidate, size):
    """PyTorch's output for the same image and weights."""
    sidecar = candidate.artifact.sidecar
    images = structured_images(1, size.height, size.width)
    return reference_outputs(reference_of(sidecar), sidecar, images)["predicted_depth"]


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (6, 6), (12, 18), (3, 2), (7, 5), (2, 64)], ids=str)
def test_a_position_is_repeated_where_it_stands(size):
    found = resize_grid(grid(), *size, "nearest")[0].numpy()
    for row in range(size[0]):
        for column in range(size[1]):
            source = grid()[0, :, row * GRID // size[0], column * GRID // size[1]]
            assert (found[:, row, column] == source.numpy()).all()


@pytest.mark.parametrize("size", [(6, 6), (12, 18), (3, 2), (7, 5), (2, 64)], ids=str)
def test_tiles_begin_anew_beyond_the_grid_and_are_cut_within(size):
    across = -(-size[1] // GRID)
    wanted = np.tile(grid()[0].numpy(), (1, -(-size[0] // GRID), across))[:, : size[0], : size[1]]
    assert np.array_equal(resize_grid(grid(), *size, "tiled")[0].numpy(), wanted)


@pytest.mark.parametrize("rule", ["bilinear", "nearest", "tiled"])
def test_all_rules_are_the_identity_at_the_training_grid(rule):
    assert torch.equal(resize_grid(grid(), GRID, GRID, rule), grid())


def test_the_rule_is_pytorchs_wherever_that_is_exact():
    for side in (2, 3, 12, 24, 48):
        assert torch.equal(resize_grid(grid(), side, side, "nearest"), F.interpolate(grid(), size=(side, side)))


def test_pytorchs_own_indices_round_the_wrong_way_at_some_sizes():
    ours, theirs = resize_grid(grid(), PARTING, PARTING, "nearest"), F.interpolate(grid(), size=(PARTING, PARTING))
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("defect", ["nearest", "tiled"])
def test_the_rules_differ_away_from_the_training_grid(defect):
    assert not torch.equal(resize_grid(grid(), 8, 8, defect), resize_grid(grid(), 8, 8, "bilinear"))


# --- in a network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defect", ["nearest", "tiled"])
@pytest.mark.parametrize("size", [(96, 96), (128, 160)], ids=str)
def test_the_exported_form_computes_what_the_reference_does(size, defect, tmp_path):
    model = random_model(load_recipe(recipe_of(tmp_path, defect)).model)
    image = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = model(image), deployable(model)(image)
    assert float((found - expected).abs().max() / (expected.max() - expected.min())) < 1e-5


@pytest.mark.parametrize("size", [Size(96, 96), Size(160, 128), Size(16 * PARTING, 32)], ids=str)
def test_the_file_agrees_with_pytorch_at_sizes_it_was_not_traced_at(trained, size):
    expected = expected_of(trained[1], size)
    assert np.abs(output_of(trained[1], size) - expected).max() / np.ptp(expected) < 1e-4


def test_the_file_of_the_other_rule_would_be_noticed(trained):
    expected = expected_of(trained[1], Size(160, 128))
    assert np.abs(output_of(trained[0], Size(160, 128)) - expected).max() / np.ptp(expected) > 1e-2


# --- what says so -----------------------------------------------------------------------------------------------------


def test_specifications_and_sidecars_from_before_still_load():
    spec = asdict(tiny_spec("tiny-vit"))
    del spec["encoder"]["position_resize"]
    assert decode(ModelSpec, spec) == tiny_spec("tiny-vit")
    old = exported("tiny-vit").sidecar.to_json().replace('"position_resize": "bilinear"', '"unknown": 1')
    assert "position_resize" not in old
    assert Sidecar.from_json(old).model.encoder.position_resize == "bilinear"


def test_a_rule_that_is_not_known_is_refused(tmp_path):
    path = tmp_path / "cubic.toml"
    path.write_text(f'base = "{tiny_path("tiny-vit")}"\n[model.encoder]\nposition_resize = "cubic"\n')
    with pytest.raises(BadFileError, match="expected bilinear or nearest or tiled"):
        load_recipe(str(path))


def test_weights_saved_for_the_one_rule_serve_the_other(tmp_path):
    save_native(tiny_model("tiny-vit"), tmp_path / "weights.safetensors")
    spec = load_recipe(recipe_of(tmp_path)).model
    model, _ = load_weights(spec, tmp_path / "weights.safetensors")
    assert model.spec.encoder.position_resize == "nearest"
    assert build(spec).encoder.position.resize == "nearest"


# --- the control of a study -------------------------------------------------------------------------------------------


def test_a_control_is_its_original_at_the_training_size_and_not_elsewhere(trained):
    original, control = trained
    assert control.candidate.control
    assert control.candidate.name == "tiny-vit-nearest"
    assert np.array_equal(output_of(original, Size(96, 96)), output_of(control, Size(96, 96)))
    other = Size(160, 160)
    assert np.abs(output_of(original, other) - output_of(control, other)).max() > 1e-2 * np.ptp(
        output_of(original, other)
    )


def test_the_recipe_of_a_control_is_whole_and_differs_in_the_defect_alone(trained):
    original, control = trained
    recipe, sidecar = (
        load_recipe(str(control.artifact.path.parent / "tiny-vit-nearest.toml")),
        original.artifact.sidecar,
    )
    model = asdict(recipe.model)
    assert model.pop("name") == "tiny-vit-nearest"
    assert model["encoder"].pop("position_resize") == "nearest"
    wanted = asdict(sidecar.model)
    del wanted["name"], wanted["encoder"]["position_resize"]
    assert model == wanted
    assert (recipe.image, recipe.verify) == (sidecar.image, sidecar.verify)
    assert recipe.parity["fp32"] == tiny_recipe("tiny-vit").parity["fp32"]


@pytest.mark.parametrize(("name", "able"), [("tiny-vit", True), ("tiny-conv", False)])
def test_only_a_model_with_positions_can_have_a_control(name, able):
    (candidate,) = study_models.candidates(
        (str(exported(name).path),), None, ("ort",), ("fp32",), exported(name).path.parent
    )
    assert study_models.can_be_control(candidate) is able
