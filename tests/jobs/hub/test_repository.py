"""Folders in the hub's layout: their files and documents, refusals, and transformers.js on what was written."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.npm import npm_folder
from support.tiny import copied, exported, exported_for_cpu

from dpt_deploy import cli
from dpt_deploy.artifact.store import open_artifact, write_sidecar
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.hub import repository as writing
from dpt_deploy.jobs.hub.config import model_config
from dpt_deploy.jobs.hub.repository import check_hub_folder, write_hub_folder

pytestmark = pytest.mark.needs("torch", "onnxruntime")
SCRIPT = Path(__file__).with_name("pipeline.mjs")
NAMES = ("model.onnx", "model_fp16.onnx", "model_quantized.onnx")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    eight = exported_for_cpu(tmp_path_factory.mktemp("int8"))[0]
    return [eight.path, exported("tiny-vit", precision="fp16").path, exported("tiny-vit").path]


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):
    return write_hub_folder(artifacts, tmp_path_factory.mktemp("hub") / "tiny-vit")


@pytest.fixture(scope="module")
def labels_folder(tmp_path_factory):
    return write_hub_folder([exported("tiny-seg").path], tmp_path_factory.mktemp("hub") / "tiny-seg")


def document(folder, name):
    return json.loads((folder / name).read_text())


def edited(folder, name, **entries):
    (folder / name).write_text(json.dumps(document(folder, name) | entries))


def changed(artifact, folder, **fields):
    """Path of a copy with another sidecar."""
    copy = copied(artifact, folder)
    write_sidecar(copy.path, replace(copy.sidecar, **fields))
    return copy.path


def test_the_folder_has_the_files_that_libraries_open(folder):
    onnx = {f"onnx/{name}{suffix}" for name in NAMES for suffix in ("", ".json", ".golden.npz")}
    expected = {"LICENSE", "README.md", "config.json", "preprocessor_config.json", *onnx}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == expected
    assert [file.dtype for file in check_hub_folder(folder)] == ["fp32", "fp16", "q8"]
    assert open_artifact(folder / "onnx/model_quantized.onnx").sidecar.precision == "int8-cpu"


def test_its_documents_say_what_the_sidecars_say(folder):
    config, processor = document(folder, "config.json"), document(folder, "preprocessor_config.json")
    sidecar = exported("tiny-vit").sidecar
    assert (config["model_type"], config["architectures"]) == ("dpt", ["DPTForDepthEstimation"])
    assert config["hidden_size"] == sidecar.model.encoder.width
    assert config["dpt_deploy"]["quantity"] == "inverse depth"
    assert processor["size"] == {"height": sidecar.image.height, "width": sidecar.image.width}
    assert processor["image_mean"] == list(sidecar.image.mean)
    assert processor["ensure_multiple_of"] == sidecar.shapes.stride


DINOV2 = {
    "tiny-dinov2": ("depth_anything", "DepthAnythingForDepthEstimation", "relative"),
    "tiny-dpt-dinov2": ("dpt", "DPTForDepthEstimation", None),
}


@pytest.fixture(scope="module")
def dinov2_folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub")
    return {name: write_hub_folder([exported(name).path], out / name) for name in DINOV2}


@pytest.mark.parametrize("name", DINOV2)
def test_dinov2_has_the_class_that_the_libraries_have_for_it(name, dinov2_folders):
    config = document(dinov2_folders[name], "config.json")
    found = (config["model_type"], config["architectures"][0], config.get("depth_estimation_type"))
    assert found == DINOV2[name]
    backbone, model = config["backbone_config"], exported(name).sidecar.model
    assert (backbone["model_type"], backbone["hidden_size"]) == ("dinov2", model.encoder.width)
    assert config["neck_hidden_sizes"] == list(model.reassemble_channels)
    processor = document(dinov2_folders[name], "preprocessor_config.json")
    assert (processor["ensure_multiple_of"], processor["keep_aspect_ratio"]) == (14, True)


@pytest.mark.parametrize("name", DINOV2)
def test_the_pipeline_runs_dinov2(name, dinov2_folders, tmp_path):
    image, expected = golden(exported(name))
    found = in_pipeline(dinov2_folders[name], "depth-estimation", image, tmp_path)
    assert found["dims"] == list(expected.shape)
    error = np.abs(np.reshape(found["values"], expected.shape) - expected).max() / np.ptp(expected)
    assert error < 1e-3


def test_depth_anything_3_is_one_without_its_type_of_head(tmp_path):
    source = exported("tiny-dinov2")
    model = replace(source.sidecar.model, activation="exp", quantity="relative depth")
    outputs = (replace(source.sidecar.outputs[0], task="relative-depth"),)
    path = changed(source, tmp_path / "third", model=model, outputs=outputs)
    config = document(write_hub_folder([path], tmp_path / "hub"), "config.json")
    assert (config["model_type"], config["dpt_deploy"]["quantity"]) == ("depth_anything", "relative depth")
    assert not {"depth_estimation_type", "max_depth"} & config.keys()


def test_the_card_names_quantity_parity_and_random_weights(folder):
    card = (folder / "README.md").read_text()
    cases = open_artifact(folder / "onnx/model.onnx").sidecar.parity.cases
    assert "pipeline_tag: depth-estimation" in card
    assert "larger is nearer" in card
    assert f"{max(case.max for case in cases):.1e} | {max(case.mean for case in cases):.1e}" in card
    assert "it has learned nothing" in card


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("config.json", {"hidden_size": 7}),
        ("config.json", {"dpt_deploy": {}}),
        ("preprocessor_config.json", {"image_mean": [0, 0, 0]}),
        ("preprocessor_config.json", {"ensure_multiple_of": 1}),
    ],
)
def test_a_planted_wrong_entry_is_noticed(folder, tmp_path, name, entry):
    copy = shutil.copytree(folder, tmp_path / "copy")
    edited(copy, name, **entry)
    with pytest.raises(BadFileError, match=f"{name} has {next(iter(entry))}"):
        check_hub_folder(copy)


def test_a_damaged_model_is_noticed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / "onnx/model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BadFileError, match="bytes"):
        check_hub_folder(copy)


def test_artefacts_that_do_not_fit_are_refused(artifacts, tmp_path):
    fp16, fp32 = exported("tiny-vit", precision="fp16"), exported("tiny-vit")
    weights, output = fp16.sidecar.weights, fp32.sidecar.outputs[0]
    cases = {
        "different networks": [exported("tiny-conv").path, artifacts[1]],
        "different weights": [artifacts[2], changed(fp16, tmp_path / "weights", weights=replace(weights, seed=9))],
        "both fp32": [artifacts[2], exported("tiny-conv").path],
        "no artefact": [],
        "returns labels": [changed(fp32, tmp_path / "labels", outputs=(replace(output, task="labels"),))],
        "has 2 outputs": [changed(fp32, tmp_path / "two", outputs=(output, replace(output, name="other")))],
        "of type uint8": [changed(fp32, tmp_path / "uint8", input_kind="uint8")],
    }
    for message, paths in cases.items():
        with pytest.raises(UsageError, match=message):
            write_hub_folder(paths, tmp_path / "hub")
        assert not (tmp_path / "hub").exists(), message


def test_a_folder_is_whole_or_absent(artifacts, tmp_path, monkeypatch):
    def wrong(files):
        return model_config(files) | {"hidden_size": 1}

    monkeypatch.setattr(writing, "model_config", wrong)
    with pytest.raises(BadFileError, match="hidden_size"):
        write_hub_folder(artifacts, tmp_path / "new" / "hub")
    assert not (tmp_path / "new").exists()


def test_the_command_replaces_its_own_folder_only(artifacts, tmp_path, capsys):
    out = tmp_path / "hub"
    command = ["convert", "--to", "hub", str(artifacts[2]), "-o", str(out)]
    assert cli.call(command) == 0
    assert cli.call(command) == 2
    assert "replace it with --force" in capsys.readouterr().err
    assert cli.call([*command, "--force"]) == 0
    edited(out, "config.json", dpt_deploy=None)
    (out / "config.json").write_text("{}")
    assert cli.call([*command, "--force"]) == 2
    assert "holds other files" in capsys.readouterr().err


def test_options_of_the_two_ways_exclude_each_other(artifacts, tmp_path, capsys):
    out = ["-o", str(tmp_path / "hub")]
    assert cli.call(["convert", "--to", "hub", str(artifacts[2]), "--backbone", "tiny", *out]) == 2
    assert cli.call(["convert", str(artifacts[2]), "--backbone", "tiny", *out]) == 2
    assert cli.call(["convert", *out]) == 2
    assert "--backbone is missing" in capsys.readouterr().err


def test_a_file_of_one_size_asks_for_that_size(tmp_path):
    source = exported("tiny-vit")
    path = changed(source, tmp_path, shapes=replace(source.sidecar.shapes, static=(64, 96)))
    out = write_hub_folder([path], tmp_path / "hub")
    processor = document(out, "preprocessor_config.json")
    assert (processor["size"], processor["keep_aspect_ratio"]) == ({"height": 64, "width": 96}, False)


def in_pipeline(folder, task, image, tmp_path, dtype=""):
    """The result of transformers.js on an RGB image."""
    raw = tmp_path / "image.raw"
    raw.write_bytes(np.ascontiguousarray(image).tobytes())
    command = ["node", SCRIPT, npm_folder(), folder, task, dtype, raw, *map(str, image.shape[:2])]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def golden(artifact):
    with np.load(artifact.golden_path) as stored:
        return stored["images"][0], stored["output"][0]


@pytest.mark.parametrize(("dtype", "limit"), [("", 1e-3), ("fp16", 3e-3), ("q8", 0.2)])
def test_the_depth_pipeline_meets_the_golden_tensors(folder, tmp_path, dtype, limit):
    image, expected = golden(exported("tiny-vit"))
    found = in_pipeline(folder, "depth-estimation", image, tmp_path, dtype)
    assert found["dims"] == list(expected.shape)
    error = np.abs(np.reshape(found["values"], expected.shape) - expected).max() / np.ptp(expected)
    assert error < limit


def test_the_depth_pipeline_shows_a_wrong_normalisation(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    edited(copy, "preprocessor_config.json", image_mean=[0.45, 0.45, 0.45])
    image, expected = golden(exported("tiny-vit"))
    found = in_pipeline(copy, "depth-estimation", image, tmp_path)
    error = np.abs(np.reshape(found["values"], expected.shape) - expected).max() / np.ptp(expected)
    assert error > 1e-3


def test_the_segmentation_pipeline_meets_the_golden_tensors(labels_folder, tmp_path):
    image, expected = golden(exported("tiny-seg"))
    found = in_pipeline(labels_folder, "image-segmentation", image, tmp_path)
    assert found["dims"] == [1, *expected.shape]
    error = np.abs(np.reshape(found["values"], expected.shape) - expected).max() / np.ptp(expected)
    assert error < 1e-3
    labels = expected.argmax(axis=0)
    for each in found["masks"]:
        number = int(each["label"].removeprefix("LABEL_"))
        mask = np.reshape(each["mask"], labels.shape) > 0
        assert np.mean(mask == (labels == number)) > 0.999
