"""A survey of precisions: every file with what was made of it, every refusal with its message, nothing twice."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.tiny import exported, tiny_path

from dpt_deploy.jobs import survey
from dpt_deploy.jobs.survey import in_pytorch, run_once, survey_precisions


def test_a_file_is_exported_compared_loaded_and_built_once(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "ASKED", ("fp16",))
    target, said = tmp_path / "precisions.json", []
    small = ("--backbone", str(tiny_path("tiny-vit")), "--weights", "random")
    survey_precisions(target, {"small": small, "odd": ("--backbone", "no-such")}, size=64, say=said.append)
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
    assert len(said) == 2
    survey_precisions(target, {"small": small}, size=64, say=said.append)
    assert len(said) == 2  # it is recorded already
    assert json.loads(target.read_text())["rows"] == rows


def test_what_onnx_runtime_returns_must_be_finite(tmp_path):
    run_once(str(exported("tiny-vit").path), 64)
    with pytest.raises(ValueError, match="not finite"):
        run_once(str(_spoiled(tmp_path)), 64)


def test_only_16_bits_are_computed_in_pytorch():
    assert in_pytorch(str(exported("tiny-vit").path), 64) == "null"


def _spoiled(folder):
    model = onnx.load(exported("tiny-vit").path)
    for tensor in model.graph.initializer:
        if tensor.name == "head.conv3.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.inf, np.float32), tensor.name))
    onnx.save(model, folder / "spoiled.onnx")
    return folder / "spoiled.onnx"
