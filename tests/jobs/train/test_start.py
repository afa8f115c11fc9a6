"""Training may go on from weights: those of a file, or those that ship under a name."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")

from safetensors.torch import load_file
from support.training import write_study

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.train.train import read_training, train_model
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.random_weights import random_model


def still(plan, **changes):
    """A training of one step that moves nothing."""
    schedule = replace(plan.schedule, steps=1, warm_up=0, encoder_rate=0.0, decoder_rate=0.0)
    return replace(plan, schedule=schedule, **changes)


def weights(plan, folder, cache):
    return load_file(train_model(plan, folder, cache=cache).weights)


def test_a_training_begins_with_the_weights_it_is_given(tmp_path):
    plan = read_training(write_study(tmp_path))
    first = train_model(plan, tmp_path / "first", cache=tmp_path / "cache")
    then = weights(still(plan, start=str(first.weights)), tmp_path / "then", tmp_path / "cache")
    saved = load_file(first.weights)
    assert all((then[key] == saved[key]).all() for key in saved)
    fresh = weights(still(plan), tmp_path / "fresh", tmp_path / "cache")
    assert not all((fresh[key] == saved[key]).all() for key in saved)


def test_weights_that_are_not_there_are_refused(tmp_path):
    plan = replace(read_training(write_study(tmp_path)), start="nobody.safetensors")
    with pytest.raises(BadFileError, match="nobody"):
        train_model(plan, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()  # nothing was rendered for it


def test_a_training_that_starts_elsewhere_is_another_one(tmp_path):
    plan = read_training(write_study(tmp_path))
    assert "start" not in plan.identity  # as before there was a choice
    assert replace(plan, start="tiny").identity != plan.identity


def test_weights_that_are_others_under_the_same_name_make_another_training(tmp_path):
    plan = read_training(write_study(tmp_path))
    start = tmp_path / "start.safetensors"
    model = load_recipe(plan.backbone).model
    save_native(random_model(model), start)
    plan = still(plan, start=str(start))
    weights(plan, tmp_path / "out", tmp_path / "cache")
    start = start.rename(tmp_path / "moved.safetensors")
    weights(replace(plan, start=str(start)), tmp_path / "out", tmp_path / "cache")  # the same ones, elsewhere
    save_native(random_model(model, seed=1), start)
    with pytest.raises(BadFileError, match=r"another training \(different: start\)"):
        train_model(replace(plan, start=str(start)), tmp_path / "out", cache=tmp_path / "cache")
