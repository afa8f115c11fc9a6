"""``convert``: ``--keys`` of a checkpoint that fits and of one that does not, and a refusal that leaves no folder."""

from __future__ import annotations

import pytest
import torch
from support.tiny import tiny_model

from dpt_deploy import cli
from dpt_deploy.model.checkpoints.load import save_native

VIT, HYBRID = "tests/support/recipes/tiny-vit.toml", "tests/support/recipes/tiny-hybrid.toml"


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_native(tiny_model("tiny-vit"), path)
    return path


def _convert(checkpoint, tmp_path, *options):
    return cli.call(
        [
            "convert",
            "--backbone",
            VIT,
            "--weights",
            str(checkpoint),
            "--to",
            "native",
            "-o",
            str(tmp_path / "o"),
            *options,
        ]
    )


def test_every_key_of_a_checkpoint_is_reported(checkpoint, tmp_path, capsys):
    assert _convert(checkpoint, tmp_path, "--keys") == 0
    messages = capsys.readouterr().err.splitlines()
    used = [line for line in messages if line.startswith("used ")]
    assert len(used) == len(tiny_model("tiny-vit").state_dict())
    assert _convert(checkpoint, tmp_path) == 0
    assert not [line for line in capsys.readouterr().err.splitlines() if line.startswith("used ")]


def test_a_checkpoint_that_does_not_fit_tells_what_is_wrong(tmp_path, capsys):
    state = dict(tiny_model("tiny-vit").state_dict())
    state["head.conv3.bias"] = torch.zeros(2)
    del state["neck.0.weight"]
    torch.save(state, tmp_path / "bad.pt")
    assert _convert(tmp_path / "bad.pt", tmp_path, "--keys") == 4
    messages = capsys.readouterr().err
    assert "missing     neck.0.weight" in messages
    assert "shape       head.conv3.bias" in messages


def test_a_refused_conversion_leaves_no_folder(tmp_path, capsys):
    target = tmp_path / "made" / "folder"
    assert cli.call(["convert", "--backbone", "tiny-conv", "-o", str(target)]) == 2
    assert "has no convolutional encoder of kind 'cnn'" in capsys.readouterr().err
    assert not target.parent.exists()
