"""The survey of precisions: a row for every file, a message for every refusal, nothing measured twice."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.scripts import load_script, without_processes
from support.tiny import exported, quick_accuracy, tiny_path
from support.traces import traces_kept

skimage = pytest.importorskip("skimage", reason="the survey uses photographs of scikit-image")
script = load_script("precision_survey")


def test_a_file_is_exported_compared_loaded_and_built_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "ASKED", ("fp16",))
    target = tmp_path / "precisions.json"
    small = ("--backbone", str(tiny_path("tiny-vit")), "--weights", "random")
    for name in ("coffee.png", "rocket.jpg"):
        shutil.copy(Path(skimage.__file__).parent / "data" / name, tmp_path)
    with quick_accuracy(), traces_kept(), monkeypatch.context() as patch:
        patch.setattr(script, "subprocess", without_processes(script))
        script.survey(target, "small", small, 64, tmp_path)
    script.survey(target, "odd", ("--backbone", "no-such"), 64)
    rows = json.loads(target.read_text())["rows"]
    good, bad = rows
    assert (good["network"], good["asked"], good["precision"], good["size"]) == ("small", "fp16", "fp16", 64)
    assert good["verify"]["passed"]
    assert 0 < good["pytorch"]["mean"] < good["pytorch"]["max"] < 0.1
    assert good["onnxruntime"] == "runs"
    if good["engine"]["built"]:
        assert good["engine"]["operations"]["fp16"] > 0.5
        assert good["engine"]["attention"]["decomposable"] == 0
    else:
        assert good["engine"]["message"].startswith("error:")
    assert not bad["exported"]
    assert "no-such" in bad["message"]
    assert len(capsys.readouterr().out.splitlines()) == 2
    script.survey(target, "small", small, 64, tmp_path)
    assert capsys.readouterr().out == ""  # it is recorded already
    assert json.loads(target.read_text())["rows"] == rows


def test_what_onnx_runtime_returns_must_be_finite(tmp_path):
    assert script._itself("run_once", exported("tiny-vit").path, 64).returncode == 0  # in a process of its own
    with pytest.raises(ValueError, match="not finite"):
        script.run_once(str(_spoiled(tmp_path)), 64)


def test_only_16_bits_are_computed_in_pytorch():
    assert script.in_pytorch(str(exported("tiny-vit").path), 64) is None


def _spoiled(folder):
    model = onnx.load(exported("tiny-vit").path)
    for tensor in model.graph.initializer:
        if tensor.name == "head.conv3.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.inf, np.float32), tensor.name))
    onnx.save(model, folder / "spoiled.onnx")
    return folder / "spoiled.onnx"
