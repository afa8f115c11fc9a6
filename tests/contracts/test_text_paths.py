"""Every public function takes a path as text: a wrong path gives the error of a wrong path."""

import inspect

import numpy as np
import pytest

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, UsageError

pytestmark = pytest.mark.needs("torch", "onnx", "onnxruntime")

MISSING = {
    "build_engine_artifact": lambda name: dpt_deploy.build_engine_artifact(name, "out"),
    "create_model": lambda name: dpt_deploy.create_model("tiny", weights=name),
    "diagnose_artifact": dpt_deploy.diagnose_artifact,
    "inspect_artifact": dpt_deploy.inspect_artifact,
    "load": dpt_deploy.load,
    "load_recipe": lambda name: dpt_deploy.load_recipe(f"{name}.toml"),
    "open_artifact": dpt_deploy.open_artifact,
    "prepare_study": lambda name: dpt_deploy.prepare_study(dpt_deploy.StudyRequest(models=(name,))),
    "read_image": dpt_deploy.read_image,
    "read_pfm": dpt_deploy.read_pfm,
    "read_training": dpt_deploy.read_training,
    "refit_engine_artifact": lambda name: dpt_deploy.refit_engine_artifact(name, name, "out"),
    "run_files": lambda name: dpt_deploy.run_files(name, name, "out"),
    "sign_artifact": lambda name: dpt_deploy.sign_artifact(name, name, name),
    "check_signature": lambda name: dpt_deploy.check_signature(name, name, name),
    "verify_artifact": lambda name: dpt_deploy.verify_artifact(name, against=name, weights=name),
}
FILES = {  # a folder to write to that is a file
    "convert_checkpoint": lambda name: dpt_deploy.convert_checkpoint("tiny", name),
    "export_model": lambda name: dpt_deploy.export_model(
        dpt_deploy.ExportRequest(dpt_deploy.load_recipe("tiny")), name
    ),
    "run_study": lambda name: dpt_deploy.run_study(None, name),
}


@pytest.mark.parametrize("call", MISSING.values(), ids=MISSING)
def test_a_missing_file_named_as_text(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFileError, match="missing"):
        call("missing.onnx")


@pytest.mark.parametrize("call", FILES.values(), ids=FILES)
def test_a_folder_named_as_text_that_is_a_file(tmp_path, call):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        call(str(tmp_path / "file"))


def test_a_training_named_as_text(tmp_path, root):
    (tmp_path / "file").touch()
    config = dpt_deploy.read_training(str(root / "benchmarks/trainings/tiny.toml"))
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        dpt_deploy.train_model(config, str(tmp_path / "file"), cache=str(tmp_path))


def test_a_calibration_folder_named_as_text(tmp_path):
    recipe = dpt_deploy.load_recipe("tiny")
    request = dpt_deploy.ExportRequest(recipe, precision="fp16", calibration=str(tmp_path / "missing"))
    with pytest.raises(BadFileError, match="missing"):
        dpt_deploy.export_model(request, str(tmp_path / "out"))


def test_a_map_goes_there_and_back(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    dpt_deploy.write_pfm(str(tmp_path / "a.pfm"), values)
    np.testing.assert_array_equal(dpt_deploy.read_pfm(str(tmp_path / "a.pfm")), values)


@pytest.mark.parametrize("name", [name for name in dpt_deploy.__all__ if not name.startswith("__")])
def test_no_public_function_takes_a_path_only(name):
    found = getattr(dpt_deploy, name)
    if not inspect.isfunction(found):
        return
    for parameter in inspect.signature(found).parameters.values():
        kinds = str(parameter.annotation).split(" | ")
        assert "str" in kinds or "Path" not in kinds, f"{name}({parameter})"
