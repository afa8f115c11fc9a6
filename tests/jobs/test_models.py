"""The list of networks: it follows the recipes and the table of weights, and says where weights are. Base install."""

import json
import runpy
from dataclasses import replace

import pytest
from support.paths import ROOT

from dpt_deploy.cli import call
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.recipe import list_models, load_recipe, zoo_names
from dpt_deploy.jobs import models as module
from dpt_deploy.jobs.models import list_networks
from dpt_deploy.model.checkpoints import published

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path / "cache"))


def test_every_network_is_listed_with_its_own_task():
    found = list_networks()
    assert {each.name for each in found} == set(zoo_names())
    own = {(name, load_recipe(name).model.task) for name in zoo_names()}
    assert own <= {(each.name, each.task) for each in found}
    assert ("hybrid", "segmentation") in {(each.name, each.task) for each in found}
    assert len({(each.name, each.task) for each in found}) == len(found)


def test_every_published_checkpoint_of_the_zoo_is_listed_once_for_each_task():
    files = [each.file for entry in list_networks() for each in entry.weights if each.place != "shipped"]
    assert sorted(files) == sorted(entry.file for entry in published.published() for _ in entry.tasks)


def test_a_row_has_what_the_recipe_says():
    (kitti,) = list_networks(["hybrid-kitti"])
    assert (kitti.task, kitti.quantity, kitti.size, kitti.stride, kitti.fixed) == (
        "depth",
        "metres",
        "352x1216",
        32,
        False,
    )
    assert kitti.parameters is None
    assert {each.quantity for each in list_networks(task="segmentation")} == {"classes"}


def test_a_network_of_two_outputs_is_listed_as_it_is():
    (both,) = list_networks(["tiny-both"])
    assert (both.task, both.quantity, both.availability) == ("depth", "inverse depth, classes", "shipped")


@pytest.mark.needs("torch", "timm")
def test_parameters_of_a_second_output_are_counted():
    both, depth = (list_networks([name], parameters=True)[0].parameters for name in ("tiny-both", "tiny"))
    assert both > 1.2 * depth


def test_weights_are_shipped_cached_to_be_fetched_or_fetched_by_hand():
    (tiny,), (hybrid, _), (base,) = (list_networks([name]) for name in ("tiny", "hybrid", "base"))
    assert (tiny.availability, hybrid.availability, base.availability) == ("shipped", "to be fetched", "none published")
    assert (tiny.chosen.licence, tiny.chosen.commercial, hybrid.chosen.commercial) == ("MIT", "yes", "unclear")
    assert "by hand" in {each.place for each in hybrid.weights}
    published.cache_folder().mkdir(parents=True)
    (published.cache_folder() / hybrid.chosen.file).touch()
    assert list_networks(["hybrid"])[0].availability == "cached"


def test_weights_that_are_no_default_are_marked(monkeypatch):
    found = tuple(replace(entry, default=False, commercial="no") for entry in published.published())
    monkeypatch.setattr(module.published, "published", lambda: found)
    large = list_networks(["large"], task="depth")[0]
    assert (large.availability, large.chosen.commercial) == ("to be fetched, by name", "no")


@pytest.mark.needs("torch", "timm")
def test_parameters_are_counted_on_request():
    assert list_networks(["tiny-conv"], parameters=True)[0].parameters == 1_725_497


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="no network 'hybird'") as caught:
        list_networks(["hybird"])
    assert "hybrid" in caught.value.hint


def test_the_command_prints_a_table_and_json(capsys):
    assert call(["models", "large", "--task", "depth"]) == 0
    out, err = capsys.readouterr()
    assert "inverse depth" in out
    assert "MIT" in out
    assert "ort" in err
    assert call(["models", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["name"] for each in document["networks"]} == set(list_models())
    assert {"ort", "trt"} <= {each["name"] for each in document["runtimes"]}
    assert call(["models", "hybird"]) == UsageError.exit_code


def test_engines_are_those_of_the_recorded_results():
    script = runpy.run_path(str(ROOT / "benchmarks/engines.py"))
    recorded = json.loads((ROOT / "dpt_deploy/data/engines.json").read_text())
    assert recorded == script["engines"]()
    assert {"base", "da2-small"} <= recorded.keys() <= set(zoo_names())


def test_the_engine_of_a_named_network_is_stated(capsys, monkeypatch):
    builds = {
        "da2-small": module.EngineBuild(True, "lib 1.0", "518", ""),
        "levit-224": module.EngineBuild(False, "lib 1.0", "224", "no such layer"),
    }
    monkeypatch.setattr(module, "_engines", lambda: builds)
    assert call(["models", "da2-small", "levit-224", "da2-giant"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "da2-small, depth: lib 1.0 builds an engine at 518" in said
    assert "levit-224, depth: lib 1.0 builds no engine at 224: no such layer" in said
    assert "da2-giant, depth: no build of an engine is recorded" in said


def test_a_network_without_a_build_states_that_of_one_with_the_same_layers():
    networks = {each.name: each.engine for each in list_networks(["da1-small", "da2-small", "da2-large-outdoor"])}
    assert networks["da2-small"].network == ""
    alike = networks["da1-small"]
    assert (alike.network, alike.differences, alike.short) == ("da2-small", ("taps",), "like da2-small, built")
    assert "not built itself; for da2-small, which is the same but for taps, tensorrt_rtx" in str(alike)
    assert "activation" in networks["da2-large-outdoor"].differences


def test_other_layers_are_no_same_network(monkeypatch):
    built = module.EngineBuild(True, "lib 1.0", "518", "")
    monkeypatch.setattr(module, "_engines", lambda: dict.fromkeys(("da2-small", "beit-large-512", "base"), built))
    for name in ("da2-giant", "beit-large-384", "dpt-dinov2-base-nyu", "deit-distilled"):
        assert module.engine_of(load_recipe(name)) is None
    recipe = load_recipe("da1-small")
    shallow = replace(recipe.model, taps=(7, 8, 9, 10))
    assert module.engine_of(replace(recipe, model=shallow)) is None
    assert module.engine_of(replace(recipe, model=replace(recipe.model, fusion_channels=128))) is None


def test_the_source_of_a_hash_that_the_authors_do_not_state_is_named(capsys):
    assert call(["models", "da2-large", "da2-small"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("its SHA-256 is stated by") == 1
    assert "depth_anything_v2_vitl.pth: its SHA-256 is stated by three mirrors, which agree" in said
