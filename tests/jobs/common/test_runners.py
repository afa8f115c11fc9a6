"""Runtimes that do not fit an artefact are refused with the ones that do."""

from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest
from support.tiny import exported

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.jobs.common.runners import open_runner, runtime_help

pytestmark = pytest.mark.fast

REFUSED = {
    "PyTorch runs no file": (
        "x.onnx",
        "torch",
        "does not run exported files",
        "use ort, openvino, openvino-bf16, emu",
    ),
    "an engine in ONNX Runtime": ("x.plan", "ort", "runs ONNX files; x.plan is an engine", "use trt, native, or"),
    "a model in TensorRT": ("x.onnx", "trt", "runs engines; x.onnx is an exported model", "dpt-deploy build x.onnx"),
    "an unknown name": ("x.onnx", "tvm", "unknown runtime 'tvm'", "known: ort, openvino"),
}


@pytest.mark.parametrize(("path", "runtime", "message", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_runtime_that_does_not_fit_is_refused(path, runtime, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        open_runner(Path(path), runtime)
    assert hint in caught.value.hint


def test_help_lists_the_runtimes_of_a_kind():
    assert runtime_help(PLAN) == (
        "trt: TensorRT (experimental: run on one GPU so far); native: the C++ library; "
        "grpc: a model server at grpc://HOST:PORT/MODEL; http: a model server at http://HOST:PORT/MODEL"
    )
    assert runtime_help(ONNX).startswith("ort: ONNX Runtime; openvino: ")
    assert "torch" in runtime_help(ONNX, reference=True)
    assert "torch" not in runtime_help(ONNX)


def asks_for_exact_sums(options):
    try:
        return options.get_session_config_entry("session.x64quantprecision") == "1"
    except RuntimeError:  # it was not set
        return False


@pytest.mark.parametrize("narrow", [True, False], ids=["no VNNI", "VNNI"])
def test_exact_sums_are_asked_for_where_they_would_be_cut_only(narrow, monkeypatch):
    path = exported("tiny-vit").path
    module, asked = import_module("dpt_deploy.runtime.onnxruntime"), []
    real = module.ort.InferenceSession

    def load(path, options, **more):
        asked.append(asks_for_exact_sums(options))
        return real(path, options, **more)

    monkeypatch.setattr(module, "sums_8_bits_in_16", lambda: narrow)
    monkeypatch.setattr(module.ort, "InferenceSession", load)
    with open_runner(path, "ort"):
        assert asked == [narrow]


@pytest.mark.parametrize("narrow", [True, False], ids=["no VNNI", "VNNI"])
def test_pairs_are_computed_in_floats_where_exact_integers_cannot_be_prepared(narrow, monkeypatch):
    path = exported("tiny-vit").path  # before anything is replaced: an export runs its file
    module, asked = import_module("dpt_deploy.runtime.onnxruntime"), []
    real = module.ort.InferenceSession

    def load(path, options, **more):
        asked.append(options)
        if len(asked) == 1:
            raise RuntimeError("AddInitializer")
        assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
        return real(path, options, **more)

    monkeypatch.setattr(module, "sums_8_bits_in_16", lambda: narrow)
    monkeypatch.setattr(module.ort, "InferenceSession", load)
    with nullcontext() if narrow else pytest.raises(BadFileError), open_runner(path, "ort") as runner:
        assert runner.settings["8 bits"] == "computed in floats"
    assert len(asked) == (2 if narrow else 1)
