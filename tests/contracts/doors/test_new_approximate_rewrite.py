"""An approximate rewrite is one record: exported, recorded, verified (docs/how-to/new-approximate-rewrite.md)."""

import copy
import json

import numpy as np
import pytest
import torch
from support.faults.calling import complaint, fine
from support.tiny import quick_accuracy, tiny_path
from torch import nn

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.rewrites.registry import REWRITES, Rewrite

pytestmark = pytest.mark.needs("torch", "onnxruntime")


class MixTokens(nn.Module):
    """Move every token a ``share`` of the way to the mean of all tokens."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, tokens):
        return tokens + self.share * (tokens.mean(dim=1, keepdim=True) - tokens)


def mix_tokens(model: DPT, share: float) -> DPT:
    """Return a copy of the network that mixes the tokens of its last block."""
    mixed = copy.deepcopy(model)
    mixed.encoder.blocks[-1] = nn.Sequential(mixed.encoder.blocks[-1], MixTokens(share))
    return mixed


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    rewrite = Rewrite("mix-tokens", exact=False, apply=mix_tokens, parameters=("share",))
    monkeypatch.setitem(REWRITES, rewrite.name, rewrite)
    with quick_accuracy((1.5, 1.4, 1.6)):
        yield


def argv(folder, *more):
    return ["export", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "-o", folder, *more]


def test_it_is_exported_recorded_verified_and_shown(tmp_path, capsys):
    asked = argv(tmp_path, "--approximate", "mix-tokens=0.1")
    printed = fine(capsys, *asked)
    assert "mix-tokens compared with the exact network: 2 rendered scenes" in printed
    artifact = open_artifact(tmp_path / "tiny-vit-fp32-mix-tokens-0.1.onnx")
    record = artifact.sidecar.approximation
    assert (record.name, record.parameters, record.limit) == ("mix-tokens", {"share": 0.1}, 0.01)
    assert 0.0 < record.accuracy.change < 0.01
    assert record.accuracy.speedup == (1.5, 1.4, 1.6)
    assert "mix-tokens, share 0.1" in fine(capsys, "inspect", artifact.path)
    fine(capsys, "verify", artifact.path, "--golden")
    fine(capsys, "verify", artifact.path, "--res", "64x96", "--batch", "2")  # the reference is approximated too
    assert call([str(part) for part in asked]) == 0
    assert "is up to date" in capsys.readouterr().err
    assert json.loads(fine(capsys, *asked, "--json"))["approximation"]["parameters"] == {"share": 0.1}


def test_it_combines_with_a_precision(tmp_path, capsys):
    fine(capsys, *argv(tmp_path, "--approximate", "mix-tokens=0.1", "--precision", "fp16", "--res", "64x96"))
    sidecar = open_artifact(tmp_path / "tiny-vit-fp16-mix-tokens-0.1.onnx").sidecar
    assert sidecar.parity.verified
    assert sidecar.approximation.accuracy.runtime == "ort"  # the approximation itself is measured in FP32


def test_one_that_is_too_lossy_is_refused_unless_forced(tmp_path, capsys):
    lossy = argv(tmp_path, "--approximate", "mix-tokens=1")
    said = complaint(capsys, 5, *lossy)
    assert "mix-tokens changes the result by" in said
    assert "allowed are 1.00%" in said
    assert not list(tmp_path.iterdir())
    fine(capsys, *lossy, "--budget", "0.2")
    fine(capsys, *lossy, "--force")
    record = open_artifact(tmp_path / "tiny-vit-fp32-mix-tokens-1.onnx").sidecar.approximation
    assert record.accuracy.change > record.limit == 0.01


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("merge=0.5", "unknown approximation 'merge'"),
        ("fewer-operations=1", "known: mix-tokens, tokens"),
        ("mix-tokens", "="),
        ("mix-tokens=0.1,2", "'mix-tokens' has 2 numbers; expected share"),
    ],
)
def test_what_is_no_approximation_is_refused(option, message, tmp_path, capsys):
    assert message in complaint(capsys, 2, *argv(tmp_path / "out", "--approximate", option))
    assert not (tmp_path / "out").exists()


def test_the_fake_is_a_rewrite_that_changes_its_input():
    """The test itself would prove nothing with a rewrite that keeps the output."""
    tokens = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5, 4)))
    assert torch.equal(MixTokens(0.0)(tokens), tokens)
    assert not torch.allclose(MixTokens(0.1)(tokens), tokens)
