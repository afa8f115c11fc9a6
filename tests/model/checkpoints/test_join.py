"""Two networks with one encoder become one file with both outputs, equal to the two single exports bit for bit."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from support.faults.calling import complaint, fine
from support.paths import ROOT
from support.tiny import tiny_path, tiny_recipe

import dpt_deploy
from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.imaging.files import read_image
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.model.checkpoints.join import joined
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.random_weights import random_model

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

NAME = tiny_path("tiny-vit")
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
OUTPUTS = ["predicted_depth", "logits"]


@pytest.fixture(scope="module")
def networks():
    """Depth and segmentation with the same random encoder: each tensor is drawn by its name."""
    return random_model(tiny_recipe("tiny-vit").model), random_model(load_recipe(NAME, task="segmentation").model)


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    paths = folder / "depth.safetensors", folder / "segmentation.safetensors"
    for model, path in zip(networks, paths, strict=True):
        save_native(model, path)
    return paths


def convert(files, out, *more):
    depth, segmentation = files
    options = ("--weights", depth, "--segmentation-weights", segmentation, "--to", "native", "-o", out)
    return ("convert", "--backbone", NAME, "--task", "both", *options, *more)


def infer(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"pixel_values": image}), strict=True))


def test_the_joint_file_equals_the_single_ones(files, tmp_path, capsys):
    fine(capsys, *convert(files, tmp_path))
    weights = tmp_path / "tiny-vit-both7.safetensors"
    paths = {}
    for task, source in (("both", weights), ("depth", weights), ("segmentation", files[1])):  # depth: the other dropped
        out = tmp_path / task
        fine(capsys, "export", "--backbone", NAME, "--task", task, "--weights", source, "-o", out)
        (paths[task],) = out.glob("*.onnx")
    image = np.random.default_rng(0).standard_normal((2, 3, 64, 96), dtype=np.float32)
    both = infer(paths["both"], image)
    assert list(both) == OUTPUTS
    np.testing.assert_array_equal(both["predicted_depth"], infer(paths["depth"], image)["predicted_depth"])
    np.testing.assert_array_equal(both["logits"], infer(paths["segmentation"], image)["logits"])
    assert [(each.name, each.task) for each in read_sidecar(paths["both"]).outputs] == [
        ("predicted_depth", "depth"),
        ("logits", "scores"),
    ]
    cases = json.loads(fine(capsys, "verify", paths["both"], "--res", "96x64", "--batch", "2", "--json"))["cases"]
    assert [(case["output"], case["passed"]) for case in cases] == [(name, True) for name in OUTPUTS]
    fine(capsys, "run", paths["both"], PHOTOGRAPH, "--size", "64", "-o", tmp_path / "maps")
    written = {path.name for path in (tmp_path / "maps").iterdir()}
    assert {"coffee-predicted_depth.pfm", "coffee-predicted_depth.png"} < written
    assert any(name.startswith("coffee-logits") for name in written)
    with load(paths["both"]) as predictor:
        prediction = predictor(read_image(PHOTOGRAPH))
    np.testing.assert_array_equal(prediction["depth"], prediction.maps["predicted_depth"].values)
    np.testing.assert_array_equal(prediction["labels"], prediction["logits"])
    assert 1 <= prediction["labels"].min() <= prediction["labels"].max() <= 7
    with pytest.raises(KeyError):
        prediction["normals"]


def test_the_joint_module_equals_the_single_ones(networks):
    depth, segmentation = networks
    image = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    found = joined(depth, segmentation)(image)
    assert found[0].equal(depth(image))
    assert found[1].equal(segmentation(image))


def test_one_changed_value_of_the_encoder_is_found(networks, files, tmp_path, capsys):
    other = random_model(networks[1].spec)
    other.encoder.blocks[2].mlp.fc1.weight[3, 5] += 1e-6
    with pytest.raises(
        BadFileError, match=r"differ in 1 of \d+ tensors, first in encoder\.blocks\.2\.mlp\.fc1\.weight"
    ):
        joined(networks[0], other)
    path = tmp_path / "other.safetensors"
    save_native(other, path)
    assert "encoders of the two checkpoints differ" in complaint(
        capsys, 4, *convert((files[0], path), tmp_path / "out")
    )


def test_checkpoints_with_one_decoder_for_both_are_refused():
    depth = random_model(tiny_recipe("tiny-focus").model)
    labels = random_model(load_recipe(tiny_path("tiny-focus"), task="segmentation").model)
    with pytest.raises(UsageError, match="one decoder for depth and scores"):
        joined(depth, labels)


def test_wrong_options_are_refused(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert "--task both" in complaint(capsys, 2, *convert(files, out), "--task", "depth")
    assert "several outputs" in complaint(capsys, 2, *convert(files, out), "--to", "huggingface")
    assert "no weights are published" in complaint(
        capsys, 2, "export", "--backbone", "base", "--task", "both", "-o", out
    )
    assert "describes a segmentation model, not both" in complaint(
        capsys, 2, "export", "--backbone", tiny_path("tiny-seg"), "--task", "both", "-o", out
    )


def test_create_model_returns_both():
    model = dpt_deploy.create_model(NAME, task="both", classes=5, weights="random")
    depth, logits = model(torch.zeros((1, 3, 64, 96)))
    assert depth.shape == (1, 64, 96)
    assert logits.shape == (1, 5, 64, 96)
