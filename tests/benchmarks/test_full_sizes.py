"""Full-size checkpoints: their keys come from elsewhere than the key maps, so that a wrong map fails."""

from dataclasses import replace

import pytest
from support.depth_anything_keys import BASE, LARGE, SMALL, depth_anything, depth_anything_3
from support.full_size_checkpoints import ACCOUNTS, write
from support.scripts import load_script

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.match import CheckpointMismatchError, match_keys
from dpt_deploy.model.families import registry
from dpt_deploy.model.families.registry import detect

pytestmark = pytest.mark.needs("torch", "transformers")

script = load_script("full_sizes")
DINOV2 = [name for name in ACCOUNTS if name.startswith("da")]


def millions(shapes):
    total = 0
    for shape in shapes.values():
        size = 1
        for side in shape:
            size *= side
        total += size
    return round(total / 1e6, 1)


def test_the_networks_without_an_account_are_known():
    """MiDaS v2.1 alone of these was published."""
    folders = {name for name in script.NETWORKS if load_recipe(name).model.decoder == "dinov2"}
    without = {"midas-v21", "deit-distilled", "resnet50", "resnext101"}
    assert set(script.NETWORKS) - folders - set(ACCOUNTS) == without


@pytest.mark.parametrize(("numbers", "published"), [(SMALL, 24.8), (BASE, 97.5), (LARGE, 335.3)])
def test_depth_anything_has_the_published_number_of_parameters(numbers, published):
    assert millions(depth_anything(**numbers)) == published


def test_depth_anything_3_has_the_published_number_of_tensors():
    assert len(depth_anything_3(**LARGE)) == 406


@pytest.mark.parametrize("name", DINOV2)
def test_the_keys_of_depth_anything_fit_and_the_dead_ones_are_named(name):
    shapes = ACCOUNTS[name]()
    matched, _ = match_keys(load_recipe(name).model, shapes, detect(shapes))
    assert matched.fits
    assert len(matched.unused) == (0 if name == "da3-metric" else 5)


def wrong_map(monkeypatch, family, theirs, planted):
    """Plant a family of which one rule names a key that the authors' file does not have."""
    rules = tuple(replace(rule, theirs=rule.theirs.replace(theirs, planted)) for rule in family.rules)
    assert rules != family.rules
    known = [replace(each, rules=rules) if each is family else each for each in registry.families()]
    monkeypatch.setattr(registry, "_FAMILIES", known)


def test_a_checkpoint_of_the_script_finds_a_wrong_map(tmp_path, monkeypatch):
    recipe, file = load_recipe("da2-small"), tmp_path / "made.safetensors"
    assert write(recipe, file) == ("written down", 239)
    load_weights(recipe.model, file)
    family = detect(depth_anything(**SMALL))
    wrong_map(monkeypatch, family, "depth_head.projects", "depth_head.project_layers")
    with pytest.raises(CheckpointMismatchError, match="missing"):
        load_weights(recipe.model, file)


def test_a_network_without_an_account_has_no_checkpoint(tmp_path):
    file = tmp_path / "made.safetensors"
    assert write(load_recipe("resnet50"), file) == ("random", 0)
    assert not file.exists()


def test_the_checkpoint_of_focus_on_depth_is_read_by_its_own_family(tmp_path):
    shapes = ACCOUNTS["focus-base"]()
    matched, _ = match_keys(load_recipe("focus-base").model, shapes, detect(shapes))
    assert matched.fits
