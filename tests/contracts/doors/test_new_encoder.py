"""A new encoder is a specification and a module: every command then takes it (docs/how-to/new-encoder.md)."""

import pytest
import torch
from support.faults.calling import complaint, fine
from support.new_encoder import MixerEncoder, MixerSpec
from support.paths import ROOT
from support.tiny import altered, tiny_path

from dpt_deploy.artifact.store import open_artifact, read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.encoders import ENCODER_SPECS
from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.model.encoders.registry import register_encoder
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.rewrites.exact import deployable

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
RECIPE = """
base = "{base}"
description = "DPT on a mixer"
[model]
readout = "ignore"
stride = {patch}
[model.encoder]
kind = "mixer"
width = 40
patch = {patch}
slope = 0.2
[image]
height = 70
width = 70
[verify]
res = ["70", "14x98"]
"""


@pytest.fixture
def registered():
    register_encoder(MixerSpec, MixerEncoder)
    yield
    del ENCODER_SPECS["mixer"]


def recipe(folder, patch=14):
    path = folder / f"mixer-{patch}.toml"
    path.write_text(RECIPE.format(base=tiny_path("tiny-vit"), patch=patch))
    return str(path)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("patch", [14, 7])
def test_the_decoder_takes_its_sizes_from_the_specification(tmp_path, patch):
    spec = load_recipe(recipe(tmp_path, patch)).model
    assert spec.encoder == MixerSpec(width=40, depth=4, patch=patch, slope=0.2)
    model = random_model(spec)
    sizes = []
    for level in range(4):
        model.reassemble[level].register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[2:])))
    image = torch.rand(1, 3, 5 * patch, 8 * patch)
    depth = model(image)
    assert sizes == [(20, 32), (10, 16), (5, 8), (3, 4)]  # 5 rows become 3, and the fusion goes back to 5
    assert depth.shape == (1, 5 * patch, 8 * patch)
    assert torch.allclose(deployable(model)(image), depth, atol=1e-5 * float(depth.max()))


@pytest.mark.usefixtures("registered")
def test_export_verify_and_run(tmp_path, capsys):
    model, depth = tmp_path / "mixer-14-fp32.onnx", tmp_path / "coffee.pfm"
    fine(capsys, "export", "--backbone", recipe(tmp_path), "--weights", "random", "-o", tmp_path)
    assert read_sidecar(model).model.encoder == MixerSpec(width=40, depth=4, slope=0.2)
    fine(capsys, "verify", model)
    fine(capsys, "run", model, PHOTOGRAPH, "--size", "98", "-o", depth)
    assert read_pfm(depth).std() > 0
    wrong = altered(open_artifact(model), tmp_path / "wrong", "encoder.blocks.2.1.")
    assert call(["verify", str(wrong.path), "--res", "70", "--batch", "1"]) == ParityError.exit_code
    assert "first tensor that diverges: encoder.blocks.2" in capsys.readouterr().err


def test_a_kind_that_is_not_registered_is_refused(tmp_path, capsys):
    message = complaint(
        capsys, BadFileError.exit_code, "export", "--backbone", recipe(tmp_path), "--weights", "random", "-o", "out"
    )
    assert "model.encoder.kind is 'mixer'; expected " in message
