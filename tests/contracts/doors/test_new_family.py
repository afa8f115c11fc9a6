"""A new family of checkpoints is one record: every command then loads its files (docs/how-to/new-family.md)."""

import pytest
import torch
from support.faults.calling import complaint
from support.tiny import tiny_model, tiny_path, tiny_spec

from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.families import registry
from dpt_deploy.model.families.family import Family, ImageRule, Rule

pytestmark = pytest.mark.needs("torch", "onnxruntime")

FAMILY = Family(
    name="Acme depth",
    task="depth",
    marks=("acme.tower.{n}.{x}", "acme.head.{x}"),
    rules=(
        Rule("acme.tower.{n}.qkv.{x}", "encoder.blocks.{n}.attn.qkv.{x}"),
        Rule("acme.tower.{n}.{x}", "encoder.blocks.{n}.{x}"),
        Rule("acme.{x}", "{x}"),
    ),
    unused=(("acme.teacher.{x}", "the network it was distilled from"),),
    licence="CC-BY-NC-4.0",
    image=ImageRule("lower_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", list(registry.families()))
    registry.register_family(FAMILY)


def acme(name):
    return f"acme.{name}".replace("acme.encoder.blocks.", "acme.tower.").replace(".attn.qkv.", ".qkv.")


def checkpoint(folder, rename=acme, leave_out=()):
    tensors = {rename(name): tensor for name, tensor in tiny_model("tiny-vit").state_dict().items()}
    tensors["acme.teacher.weight"] = torch.zeros(3)
    path = folder / "acme.pt"
    torch.save({name: tensor for name, tensor in tensors.items() if name not in leave_out}, path)
    return path


def export(folder, weights):
    options = ("--backbone", tiny_path("tiny-vit"), "--weights", weights, "--keys", "-o", folder)
    return ["export", *map(str, options)]


@pytest.mark.usefixtures("registered")
def test_every_tensor_finds_its_place(tmp_path):
    model, report = load_weights(tiny_spec("tiny-vit"), checkpoint(tmp_path))
    assert report.unused == (("acme.teacher.weight", "the network it was distilled from"),)
    assert all(
        torch.equal(model.state_dict()[name], kept) for name, kept in tiny_model("tiny-vit").state_dict().items()
    )


@pytest.mark.usefixtures("registered")
def test_export_loads_the_file_and_names_image_rule_and_licence(tmp_path, capsys):
    assert call(export(tmp_path, checkpoint(tmp_path))) == 0
    said = capsys.readouterr().err
    assert "acme.tower.0.norm1.weight -> encoder.blocks.0.norm1.weight" in said
    assert "acme.teacher.weight: the network it was distilled from" in said
    assert "this recipe has resize minimal instead of lower_bound" in said
    assert "Acme depth weights were published under CC-BY-NC-4.0" in said
    assert read_sidecar(tmp_path / "tiny-vit-fp32.onnx").weights.family == "Acme depth"


@pytest.mark.usefixtures("registered")
def test_missing_tensors_have_the_names_of_the_file(tmp_path, capsys):
    weights = checkpoint(tmp_path, leave_out=("acme.tower.1.norm2.bias",))
    message = complaint(capsys, BadFileError.exit_code, *export(tmp_path, weights))
    assert "1 missing (acme.tower.1.norm2.bias or " in message


@pytest.mark.usefixtures("registered")
def test_a_file_without_the_marks_is_refused(tmp_path, capsys):
    weights = checkpoint(tmp_path, rename=lambda name: acme(name).replace("acme.head", "acme.last"))
    message = complaint(capsys, BadFileError.exit_code, *export(tmp_path, weights))
    assert "is not a checkpoint of a known DPT" in message
    assert "Acme depth" in message  # among the known


def test_a_family_that_is_not_registered_is_refused(tmp_path, capsys):
    weights = checkpoint(tmp_path, rename=lambda name: acme(name).replace("acme.", "acme.own_"))
    message = complaint(capsys, BadFileError.exit_code, *export(tmp_path, weights))
    assert "is not a checkpoint of a known DPT: its keys are like acme." in message
