"""Training may go on from weights: those of a file, or those that ship under a name."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="training needs PyTorch")

from safetensors.torch import load_file
from support.reporting import recording
from support.training import write_training

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.train.config import read_training
from dpt_deploy.jobs.train.train import train_model
from dpt_deploy.model.checkpoints.join import joined
from dpt_deploy.model.checkpoints.load import load_native, save_native
from dpt_deploy.model.random_weights import random_model


def still(config, **changes):
    """A training of one step that moves nothing."""
    schedule = replace(config.schedule, steps=1, warm_up=0, encoder_rate=0.0, decoder_rate=0.0)
    return replace(config, schedule=schedule, **changes)


def weights(config, folder, cache):
    return load_file(train_model(config, folder, cache=cache).weights)


def test_a_training_begins_with_the_weights_it_is_given(tmp_path):
    config = read_training(write_training(tmp_path))
    first = train_model(config, tmp_path / "first", cache=tmp_path / "cache")
    then = weights(still(config, start=str(first.weights)), tmp_path / "then", tmp_path / "cache")
    saved = load_file(first.weights)
    assert all((then[key] == saved[key]).all() for key in saved)
    fresh = weights(still(config), tmp_path / "fresh", tmp_path / "cache")
    assert not all((fresh[key] == saved[key]).all() for key in saved)


def test_weights_that_are_not_there_are_refused(tmp_path):
    config = replace(read_training(write_training(tmp_path)), start="nobody.safetensors")
    with pytest.raises(BadFileError, match="nobody"):
        train_model(config, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()  # nothing was rendered for it


def test_a_training_that_starts_elsewhere_is_another_one(tmp_path):
    config = read_training(write_training(tmp_path))
    assert "start" not in config.identity  # as before there was a choice
    assert replace(config, start="tiny").identity != config.identity


def test_weights_that_are_others_under_the_same_name_make_another_training(tmp_path):
    config = read_training(write_training(tmp_path))
    start = tmp_path / "start.safetensors"
    model = load_recipe(config.backbone).model
    save_native(random_model(model), start)
    config = still(config, start=str(start))
    weights(config, tmp_path / "out", tmp_path / "cache")
    start = start.rename(tmp_path / "moved.safetensors")
    weights(replace(config, start=str(start)), tmp_path / "out", tmp_path / "cache")  # the same ones, elsewhere
    save_native(random_model(model, seed=1), start)
    with pytest.raises(BadFileError, match=r"another training \(different: start\)"):
        train_model(replace(config, start=str(start)), tmp_path / "out", cache=tmp_path / "cache")


@pytest.fixture
def depth(tmp_path):
    """Trained weights of depth."""
    return train_model(read_training(write_training(tmp_path)), tmp_path / "first", cache=tmp_path / "cache").weights


def of_labels(depth, folder, **rates):
    config = read_training(write_training(folder, task="segmentation", **rates))
    return train_model(replace(config, start=str(depth)), folder / "labels", cache=folder / "cache").weights


def test_labels_are_learned_on_the_frozen_encoder_of_depth_and_the_two_are_joined(depth, tmp_path):
    with recording() as reporter:
        labels = of_labels(depth, tmp_path, encoder_rate="0.0")
    assert any("was trained for depth" in line and "head" in line for line in reporter.lines)
    first, second = load_file(depth), load_file(labels)
    encoder = [key for key in first if key.startswith("encoder.")]
    assert encoder
    assert all((first[key] == second[key]).all() for key in encoder)
    decoder = [key for key in first if key in second and key.startswith("fusion.")]
    assert not all((first[key] == second[key]).all() for key in decoder)
    assert joined(load_native(depth)[0], load_native(labels)[0]).spec.has_joint_scores


def test_an_encoder_that_learns_cannot_be_joined(depth, tmp_path):
    labels = of_labels(depth, tmp_path)
    with pytest.raises(BadFileError, match="encoders of the two checkpoints differ"):
        joined(load_native(depth)[0], load_native(labels)[0])


def test_a_frozen_encoder_keeps_bits_that_float16_cannot_hold(tmp_path):
    config = read_training(write_training(tmp_path))
    depth = tmp_path / "depth.safetensors"
    save_native(random_model(load_recipe(config.backbone).model), depth)
    assert any(not (tensor.half().float() == tensor).all() for tensor in load_file(depth).values())
    labels = of_labels(depth, tmp_path, encoder_rate="0.0")
    assert joined(load_native(depth)[0], load_native(labels)[0]).spec.has_joint_scores
