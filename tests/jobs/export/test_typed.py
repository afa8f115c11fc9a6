"""``export --precision fp16|bf16``: from checkpoint to a verified typed file; a planted overflow must be seen."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.faults.calling import complaint
from support.faults.precision import overflow
from support.tiny import TINY, exported, tampered, tiny_model, tiny_path, tiny_recipe

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.checkpoints.load import save_native

RES = "64,64x96"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", TINY)
def test_every_kind_of_network_exports_and_agrees(name, precision, capsys):
    artifact = exported(name, precision=precision)
    sidecar = artifact.sidecar
    assert artifact.path.stem.endswith(precision)
    assert sidecar.parity.verified
    assert sidecar.parity.runtime == "emu"
    assert sidecar.outputs[0].tolerance.max > 1e-3
    assert (sidecar.ranges.images, sidecar.ranges.sizes) == (4, ("64x96",))
    assert call(["verify", str(artifact.path), "--res", RES, "--batch", "1,3"]) == 0


def test_the_sidecar_says_which_nodes_stayed_wide_and_why():
    sidecar = exported("tiny-metric", precision="fp16").sidecar
    assert any("subnormal" in reason or "thousands" in reason for reason in sidecar.islands.values())
    read = open_artifact(exported("tiny-metric", precision="fp16").path).sidecar
    assert (read.islands, read.ranges) == (sidecar.islands, sidecar.ranges)
    assert exported("tiny-metric").sidecar.islands == {}


def test_a_planted_overflow_fails_without_a_gpu(tmp_path, capsys):
    spoiled = tampered(exported("tiny-vit", precision="fp16"), tmp_path / "fp16", overflow)
    assert call(["verify", str(spoiled.path), "--res", "64", "--batch", "1"]) == 5
    said = " ".join(capsys.readouterr().err.split())
    assert "cases disagree" in said
    assert "first tensor that diverges: encoder.blocks.1.attn" in said


def test_an_overflow_in_the_weights_is_avoided_by_an_fp32_node(tmp_path, capsys):
    """Half of the largest value fits, but not with the headroom: who touches it stays FP32."""
    model = copy.deepcopy(tiny_model("tiny-vit"))
    with torch.no_grad():
        block = model.encoder.blocks[1].mlp
        block.fc1.weight[0] *= 0
        block.fc1.bias[0] = 40000.0
        block.fc2.weight[:, 0] /= 40000.0
    weights = tmp_path / "large.safetensors"
    save_native(model, weights)
    request = ExportRequest(tiny_recipe("tiny-vit"), weights=str(weights), precision="fp16", res=(Size(64, 64),))
    artifact = export_model(request, tmp_path / "out").artifact
    reasons = {name: why for name, why in artifact.sidecar.islands.items() if name.startswith("encoder.blocks.1.mlp")}
    assert reasons
    assert any("reaches 4e+04" in why for why in reasons.values())
    assert call(["verify", str(artifact.path), "--res", "64", "--batch", "2"]) == 0


# --- what is measured on ----------------------------------------------------------------------------------------------


def photo(path, seed=0, flat=False):
    rng = np.random.default_rng(seed)
    image = np.full((40, 50, 3), 90, np.uint8) if flat else rng.integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(image).save(path)


def export_argv(folder, tmp_path, *more, precision="fp16"):
    what = ["--backbone", tiny_path("tiny-vit"), "--weights", "random", "--precision", precision]
    return ["export", *what, "--calibration", str(folder), "--res", "64", "-o", str(tmp_path / "out"), *more]


def test_a_folder_of_photographs_with_all_that_lies_in_one(tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    photo(folder / "a.png")
    photo(folder / "more" / "b.png", 1)
    photo(folder / "flat.png", flat=True)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "notes.txt").write_text("not an image")
    assert call([*export_argv(folder, tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    sidecar = open_artifact(tmp_path / "out" / "tiny-vit-fp16.onnx").sidecar
    assert json.loads(out)["artifact"].endswith("tiny-vit-fp16.onnx")
    assert (sidecar.ranges.source, sidecar.ranges.images) == ("2 images of photos", 2)
    assert "flat.png is of one colour: left out" in err
    assert "torn.jpg" in err
    assert "only 2 images" in err
    assert "notes" not in err


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    assert "holds no image" in complaint(capsys, 4, *export_argv(folder, tmp_path))
    photo(folder / "flat.png", flat=True)
    assert "holds no image" in complaint(capsys, 4, *export_argv(folder, tmp_path))
    assert "is not a folder" in complaint(capsys, 4, *export_argv(folder / "none", tmp_path))
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_static_graph_is_measured_at_its_own_size(tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    photo(folder / "a.png")
    said = complaint(capsys, 2, *export_argv(folder, tmp_path, "--static", "64x96"))
    assert "static at 64x96" in said


def test_calibration_of_an_fp32_graph_is_a_mistake(tmp_path, capsys):
    assert "--calibration" in complaint(capsys, 2, *export_argv(tmp_path, tmp_path, precision="fp32"))
