"""Recipes that one file fits alike: named where only the choice of the user decides, and nowhere else."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import depth_anything_keys as anything
from support import midas_networks
from support.checkpoints import HYBRID, LARGE, dpt_main, write_flat
from support.reporting import recording

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.model.checkpoints import load as loading
from dpt_deploy.model.checkpoints import published
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import load_weights, save_native
from dpt_deploy.model.checkpoints.match import recipes_alike
from dpt_deploy.model.families.registry import detect
from dpt_deploy.model.random_weights import random_model

pytestmark = pytest.mark.needs("torch", "timm")

NOTHING = SimpleNamespace(source=Path("file.pth"), config=None, metadata={})
SMALL = anything.depth_anything(**anything.SMALL)
WARNING = "only your choice of --backbone decides"


def alike(recipe, shapes, **changes):
    spec = replace(load_recipe(recipe).model, **changes)
    return recipes_alike(spec, NOTHING, shapes, detect(shapes))


def test_files_that_only_a_hash_tells_apart_name_the_other_recipes():
    assert alike("da2-small", SMALL) == ["da1-small", "da2-small-indoor", "da2-small-outdoor"]
    assert alike("da3-mono", anything.depth_anything_3(**anything.LARGE)) == ["da3-metric"]
    assert alike("hybrid-kitti", dpt_main(HYBRID)) == ["hybrid", "hybrid-nyu"]


def test_a_file_that_one_recipe_fits_names_none():
    assert alike("large", dpt_main(LARGE)) == []
    assert alike("levit-224", midas_networks.PUBLISHED["levit-224"]()) == []


def test_a_network_of_one_s_own_is_chosen_knowingly():
    assert alike("da2-small", SMALL, name="mine") == []
    assert alike("da2-small", SMALL, taps=(1, 5, 8, 11)) == []


def test_a_header_tells_networks_apart(tmp_path):
    spec, path = load_recipe("da2-small").model, tmp_path / "own.safetensors"
    save_native(random_model(spec), path)
    assert load_weights(spec, path, alike=True)[1].alike == ()


def test_a_configuration_tells_apart_what_it_names(tmp_path):
    for name, others in (("da2-small", ()), ("dpt-dinov2-small-nyu", ("dpt-dinov2-small-kitti",))):
        recipe = load_recipe(name)
        save_huggingface(random_model(recipe.model), tmp_path / name, image=recipe.image)
        assert load_weights(recipe.model, tmp_path / name, alike=True)[1].alike == others


@pytest.fixture
def source(tmp_path):
    return WeightsSource("file", path=str(write_flat(tmp_path / "mine.pth", SMALL)))


def warnings_of(source):
    with recording() as reporter:
        build_reference(load_recipe("da2-small").model, source)
    return [line for line in reporter.lines if WARNING in line]


def test_an_unknown_file_is_a_warning_once_and_is_read_once(source, monkeypatch):
    read, calls = loading.read_checkpoint, []
    monkeypatch.setattr(loading, "read_checkpoint", lambda *args: calls.append(args) or read(*args))
    (warning,) = warnings_of(source)
    assert "fit da1-small, da2-small-indoor, da2-small-outdoor as well as da2-small" in warning
    assert len(calls) == 1


def test_a_known_or_recorded_file_is_none(source, monkeypatch):
    _, found, _ = build_reference(load_recipe("da2-small").model, source)
    assert warnings_of(found) == []
    monkeypatch.setattr(published, "with_hash", lambda _hash: published.find("depth_anything_v2_vits.pth"))
    assert warnings_of(source) == []
