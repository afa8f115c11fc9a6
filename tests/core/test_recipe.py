"""Recipes: inheritance, checks, and messages that name file, key and choices."""

from __future__ import annotations

import pytest

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import list_models, load_recipe, zoo_names
from dpt_deploy.core.size import Size, parse_sizes
from dpt_deploy.core.task import tasks_of

pytestmark = pytest.mark.fast


def _recipe(tmp_path, text, name="mine.toml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_recipe_changes_only_what_it_says(tmp_path):
    mine = load_recipe(_recipe(tmp_path, 'base = "hybrid"\n[model]\nreadout = "ignore"\n'))
    base = load_recipe("hybrid")
    assert (mine.name, mine.model.readout, base.model.readout) == ("mine", "ignore", "project")
    assert mine.model.encoder == base.model.encoder
    assert mine.image == base.image


def test_a_recipe_may_stand_on_a_file_next_to_it(tmp_path):
    _recipe(tmp_path, 'base = "base"\n[model.encoder]\nprefix_tokens = 2\n', "first.toml")
    second = load_recipe(_recipe(tmp_path, 'base = "first.toml"\ndescription = "x"\n', "second.toml"))
    assert second.model.encoder.prefix_tokens == 2


def test_every_zoo_recipe_states_its_tolerance_and_matrix():
    for name in zoo_names():
        recipe = load_recipe(name)
        assert recipe.parity["fp32"].max <= 1e-4
        if recipe.model.encoder.fixed_size:
            assert parse_sizes(",".join(recipe.verify.res)) == (Size(*recipe.model.encoder.fixed_size),)
            continue
        assert len(recipe.verify.res) >= 5
        assert any("x" in res for res in recipe.verify.res)


def test_segmentation_is_the_same_network_with_another_head():
    recipe = load_recipe("hybrid", task="segmentation", classes=60)
    assert (recipe.model.num_classes, recipe.image.height) == (60, 480)
    assert recipe.model.taps == load_recipe("hybrid").model.taps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('base = "base"\nopsett = 3\n', "unknown key 'opsett'", id="unknown key"),
        pytest.param('base = "base"\n[model]\ntasks = 1\n', "unknown key model.'tasks'", id="unknown model key"),
        pytest.param('description = "x"\n', "is missing", id="missing"),
        pytest.param('base = "base"\n[model]\nreadout = "maybe"\n', "'maybe'", id="not a choice"),
        pytest.param('base = "base"\nopset = "x"\n', "expected int", id="wrong type"),
        pytest.param('base = "base"\n[model]\ntaps = 3\n', "expected a list", id="not a list"),
        pytest.param('base = "base"\n[model]\ntaps = [1, 2, 3]\n', "3 taps", id="three taps"),
        pytest.param('base = "base"\n[model]\ntaps = [2, 5, 8, 12]\n', "tap 12", id="tap past the last block"),
        pytest.param('base = "hybrid"\n[model]\ntaps = ["stage1", "stage0", 8, 11]\n', "resolution", id="stage order"),
        pytest.param(
            'base = "hybrid"\n[model]\nreassemble_channels = [64, 512, 768, 768]\n', "256 channels", id="channels"
        ),
        pytest.param("base = 5\n", "base is 5", id="base is a number"),
        pytest.param('base = "base"\nmodel = 3\n', "model", id="model is a number"),
        pytest.param('base = "base"\n[image]\nmean = [0.5]\n', "expected 3", id="one mean"),
        pytest.param('base = "base"\n[verify]\nbatch = ["x"]\n', "verify.batch[0]", id="batch is text"),
        pytest.param('base = "resnet50"\n[model]\ntaps = [1, 2, 3, 4]\n', "tap 1", id="blocks of a cnn"),
        pytest.param('base = "base"\n[model.encoder]\npatch = 14\n', "14 pixels; expected 16 or 8", id="patch"),
        pytest.param('base = "hybrid"\n[model.encoder]\npatch = 8\n', "8 pixels; expected 16", id="hybrid patch"),
        pytest.param('base = "base"\n[model]\ntask = "segmentation"\n', "0 classes", id="no classes"),
        pytest.param('base = "base"\n[segmentation]\nclases = 9\n', "segmentation.'clases'", id="segmentation key"),
        pytest.param('base = "base"\n[segmentation]\nclasses = "9"\n', "segmentation.classes", id="classes is text"),
        pytest.param('base = "base"\n[segmentation]\nimage = 3\n', "segmentation.image", id="image is a number"),
        pytest.param('base = "base"\nsegmentation = 3\n', "segmentation is 3", id="segmentation is a number"),
        pytest.param("x = [", "not valid TOML", id="syntax"),
        pytest.param('base = "mine.toml"\n', "extends itself", id="cycle"),
    ],
)
def test_a_wrong_recipe_is_a_bad_file(tmp_path, text, message):
    with pytest.raises(BadFileError) as caught:
        load_recipe(_recipe(tmp_path, text))
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("hybird", "did you mean hybrid"),
        ("zzz", ""),
        ("da2-large-metric-outdoor", "did you mean da2-large-outdoor or"),
        ("dinov2-dpt-small-depth-nyu", "did you mean dpt-dinov2-small-nyu"),
    ],
)
def test_an_unknown_name_gets_the_similar_ones_and_the_list(name, similar):
    with pytest.raises(UsageError, match=f"unknown backbone '{name}'") as caught:
        load_recipe(name)
    assert similar in caught.value.hint
    assert ("did you mean" in caught.value.hint) == bool(similar)
    assert "`dpt-deploy models`" in caught.value.hint


def test_a_recipe_can_drop_the_segmentation_of_its_base():
    assert "da2-small" in list_models("segmentation")
    for name in ("dpt-dinov2-small-nyu", "dpt-dinov2-giant-kitti"):
        assert name not in list_models("segmentation")
        for task in ("segmentation", "both"):
            with pytest.raises(UsageError, match=f"describes a depth model, not {task}"):
                load_recipe(name, task=task)


@pytest.mark.parametrize("value", ["true", "0", "[]"])
def test_a_segmentation_that_is_no_table_is_refused(value, tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(f'base = "da2-small"\nsegmentation = {value}\n')
    with pytest.raises(BadFileError, match="segmentation is"):
        load_recipe(path)


def test_depth_alone_leaves_the_sky_out():
    whole = load_recipe("da3-metric")
    assert [task.output for task in tasks_of(whole.model)] == ["predicted_depth", "sky"]
    alone = load_recipe("da3-metric", task="depth").model
    assert (alone.joint, alone.sky, alone.canonical_focal) == ((), None, 300.0)
    both = load_recipe("da3-metric", task="both").model
    assert (both.joint, both.sky) == (("sky", "scores"), whole.model.sky)
    assert load_recipe("da3-metric", task="segmentation").model.sky is None


def test_classes_without_segmentation_are_refused():
    with pytest.raises(UsageError, match="needs a segmentation model"):
        load_recipe("base", classes=5)
