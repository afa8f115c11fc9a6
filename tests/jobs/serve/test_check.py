"""A repository as it is written passes its check; every planted fault is noticed."""

import json
import shutil
from dataclasses import replace

import pytest
from support.served import APART, plan_artifact
from support.tiny import exported

pytest.importorskip("tritonclient", reason="the extra serve is not installed (nox -s serve installs it)")

from dpt_deploy.artifact.store import open_artifact, write_sidecar
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.serve import repository as writing
from dpt_deploy.jobs.serve.check import check_repository
from dpt_deploy.jobs.serve.repository import write_repository

pytestmark = pytest.mark.needs("torch", "cv2")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    plan = plan_artifact(folder / "plan").path
    write_repository([exported("tiny-vit").path, plan], folder / "models")
    return folder / "models"


@pytest.fixture
def copy(repository, tmp_path):
    shutil.copytree(repository, tmp_path / "models")
    return tmp_path / "models"


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_repository_as_it_is_written_passes(repository):
    assert check_repository(repository) == ("tiny-vit-fp32", "tiny-vit-fp32_image", "engine", "engine_image")


@pytest.mark.parametrize(
    ("model", "old", "new", "fault"),
    [
        ("tiny-vit-fp32", "max_batch_size", "max_batchsize", 'no field named "max_batchsize"'),
        ("tiny-vit-fp32", "TYPE_FP32", "TYPE_FP16", "input is pixel_values TYPE_FP16"),
        ("tiny-vit-fp32", "predicted_depth", "depth", "output is depth"),
        ("tiny-vit-fp32", "dims: 3", "dims: 4", r"input is pixel_values TYPE_FP32\[4"),
        ("tiny-vit-fp32", "onnxruntime", "openvino", "backend is 'openvino'"),
        ("tiny-vit-fp32", 'name: "tiny-vit-fp32"', 'name: "other"', "name is 'other'"),
        ("tiny-vit-fp32", "dims: 64", "dims: 65", "does not take"),
        ("engine", 'profile: "3"', "", r"profiles \['0', '1', '2'\]"),
        ("engine", "max_batch_size: 4", "max_batch_size: 5", "max_batch_size is 5; expected 4"),
        ("engine", "dims: 96", "dims: 128", "no profile takes"),
        ("tiny-vit-fp32_image", "TYPE_STRING", "TYPE_UINT8", "TYPE_UINT8"),
        ("tiny-vit-fp32_image", 'string_value: "tiny-vit-fp32"', 'string_value: "x"', "it calls 'x'"),
    ],
)
def test_a_planted_fault_of_a_configuration_is_noticed(copy, model, old, new, fault):
    path = copy / model / "config.pbtxt"
    if "dims: 6" in old:
        old, new = _warm_side(path), "dims: 65"
    edited(path, old, new)
    with pytest.raises(BadFileError, match=fault):
        check_repository(copy)


def _warm_side(path):
    """The line of the warm-up's height."""
    lines = path.read_text().partition("model_warmup")[2].splitlines()
    return [line.strip() for line in lines if "dims" in line][1]


def test_a_changed_model_is_noticed(copy):
    path = copy / "tiny-vit-fp32/1/tiny-vit-fp32.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadFileError, match="does not match its sidecar"):
        check_repository(copy)


def test_a_configuration_of_another_export_is_noticed(copy):
    path = copy / "tiny-vit-fp32/config.pbtxt"
    digest = path.read_text().partition("string_value: ")[2].splitlines()[0]
    edited(path, digest, '"0"')
    with pytest.raises(BadFileError, match="written for another"):
        check_repository(copy)


@pytest.mark.parametrize(
    ("profiles", "fault"),
    [(APART[:3], "same batches"), ((*APART[:3], APART[1]), "overlap")],
    ids=["unequal batches", "overlap"],
)
def test_profiles_that_changed_are_noticed(copy, profiles, fault):
    path = copy / "engine/1/engine.plan"
    sidecar = open_artifact(path).sidecar
    write_sidecar(path, replace(sidecar, engine=replace(sidecar.engine, profiles=tuple(profiles))))
    with pytest.raises(BadFileError, match=fault):
        check_repository(copy)


def test_another_version_of_tensorrt_is_noticed(copy):
    path = copy / "selftest.json"
    data = json.loads(path.read_text())
    data["options"]["tensorrt"] = "10.9.0"
    path.write_text(json.dumps(data))
    with pytest.raises(BadFileError, match=r"the server has 10\.9\.0"):
        check_repository(copy)


@pytest.mark.parametrize(
    "name", ["tiny-vit-fp32_image/1/model.py", "tiny-vit-fp32_image/1/sidecar.json", "engine/config.pbtxt"]
)
def test_a_missing_file_is_noticed(copy, name):
    (copy / name).unlink()
    with pytest.raises(BadFileError, match="not fit to serve"):
        check_repository(copy)


def test_all_faults_are_listed(copy):
    for model in ("tiny-vit-fp32", "engine"):
        edited(copy / model / "config.pbtxt", "max_batch_size", "max_batchsize")
    with pytest.raises(BadFileError, match="and 1 more") as caught:
        check_repository(copy)
    assert len(caught.value.details) == 2


def test_what_is_free_may_be_changed(copy):
    edited(copy / "tiny-vit-fp32/config.pbtxt", "count: 2", "count: 4")
    edited(copy / "tiny-vit-fp32/config.pbtxt", "max_batch_size: 8", "max_batch_size: 2")
    assert check_repository(copy)


def test_a_damaged_list_is_an_error(copy):
    (copy / "selftest.json").write_text("{")
    with pytest.raises(BadFileError, match=r"selftest\.json cannot be read"):
        check_repository(copy)


def test_a_place_that_is_taken_is_not_overwritten(tmp_path):
    path = exported("tiny-vit").path
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note").write_text("mine")
    with pytest.raises(UsageError, match="other files"):
        write_repository([path], tmp_path / "full")
    write_repository([path], tmp_path / "models")
    with pytest.raises(UsageError, match="is a model repository already"):
        write_repository([path], tmp_path / "models")
    write_repository([path], tmp_path / "models", force=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "models"]


def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch):
    def failing(_folder):
        raise BadFileError("planted")

    monkeypatch.setattr(writing, "check_repository", failing)
    with pytest.raises(BadFileError, match="planted"):
        write_repository([exported("tiny-vit").path], tmp_path / "new/models")
    assert list(tmp_path.iterdir()) == []
