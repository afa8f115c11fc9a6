"""The weights in the package: small enough, whole, found by name, and better than nothing."""

import os
from pathlib import Path

import pytest
from support.paths import TESTS

from dpt_deploy.jobs.export.request import ExportRequest

pytest.importorskip("torch", reason="the models need PyTorch")

import torch

from dpt_deploy import cli
from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.reference import reference_of
from dpt_deploy.jobs.common.weights import checkpoint_path, resolve_weights, shipped_for
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.train.config import Validation
from dpt_deploy.jobs.train.validation import validate
from dpt_deploy.model.checkpoints.load import load_weights, save_native
from dpt_deploy.model.checkpoints.published import shipped, shipped_path
from dpt_deploy.model.random_weights import random_model

NAMES = ("tiny", "tiny-conv", "tiny-vit")
FEW = Validation(scenes=32)  # no training has seen them
# Of the error of the best plane. Half of it is what is wanted, and met on the 128 scenes that validate a training (the
# records in benchmarks/results); the plain ViT barely meets it, and these are fewer and smaller.
SHARE = {"tiny": 0.5, "tiny-conv": 0.45, "tiny-vit": 0.55}


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch):
    monkeypatch.setattr("dpt_deploy.jobs.train.validation.SIDE", 256)


def test_these_ship_in_at_most_18_megabytes():
    assert {path.stem for path in shipped()} == {*NAMES, "tiny-both"}
    assert sum(path.stat().st_size for path in shipped()) <= 18_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_knows_more_than_a_plane_does(name):
    score = validate(shipped_path(name), load_recipe(name), FEW)
    assert score.abs_rel < SHARE[name] * score.plane_abs_rel


def test_random_weights_know_less(tmp_path):
    recipe = load_recipe("tiny-vit")
    save_native(random_model(recipe.model), tmp_path / "random.safetensors")
    score = validate(tmp_path / "random.safetensors", recipe, FEW)
    assert score.abs_rel > 0.85 * score.plane_abs_rel


def test_the_joint_network_has_the_depth_of_tiny_bit_for_bit():
    joint, depth = (load_weights(load_recipe(name).model, shipped_path(name))[0] for name in ("tiny-both", "tiny"))
    pixels = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(joint(pixels)[0], depth(pixels))
    assert shipped_for(load_recipe("tiny-both", task="depth")) == shipped_path("tiny-both")


def score_of_labels(monkeypatch, joint):
    """Scores of a joint network's second output, validated as a network of labels alone is."""
    monkeypatch.setattr("dpt_deploy.jobs.train.validation.load_weights", lambda *_: (lambda x: joint(x)[1], None))
    return validate(Path("joint"), load_recipe("tiny-both", task="segmentation"), FEW)


def test_its_labels_are_better_than_one_guess_for_all(monkeypatch):
    joint = load_weights(load_recipe("tiny-both").model, shipped_path("tiny-both"))[0]
    score = score_of_labels(monkeypatch, joint)
    assert score.pixel_accuracy > score.commonest + 0.25
    assert score.mean_iou > 0.3


def test_labels_of_random_weights_are_not(monkeypatch):
    score = score_of_labels(monkeypatch, random_model(load_recipe("tiny-both").model))
    assert score.pixel_accuracy < score.commonest + 0.05


def test_an_artefact_names_them_wherever_the_package_lies(tmp_path, capsys):
    request = ExportRequest(load_recipe("tiny-vit"), commercial=True, static=Size(64, 96))
    artifact = export_model(request, tmp_path).artifact
    source = artifact.sidecar.weights
    assert (source.kind, source.path, source.licence) == ("shipped", "tiny-vit.safetensors", "MIT")
    assert not source.is_random
    assert os.sep not in source.path
    assert reference_of(artifact.sidecar).spec.name == "tiny-vit"
    assert cli.call(["inspect", str(artifact.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "MIT; commercial use: yes" in shown
    assert "scenes rendered by this package" in shown


def test_they_belong_to_the_networks_of_the_zoo_alone():
    other = load_recipe(str(TESTS / "support/recipes/tiny-vit.toml"))
    assert other.name == "tiny-vit"
    assert shipped_for(other) is None
    assert shipped_for(load_recipe("tiny-vit")) == shipped_path("tiny-vit")
    assert shipped_for(load_recipe("tiny-vit", task="segmentation")) is None


def test_they_can_be_named():
    source = resolve_weights("tiny-conv", load_recipe("tiny-conv"))
    assert checkpoint_path(source) == shipped_path("tiny-conv.safetensors")
    assert checkpoint_path(WeightsSource("file", path="here.pt")) == Path("here.pt")
