"""Known defects of libraries: who is warned, and which versions do not open an artefact."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from support.paths import ROOT, TESTS
from support.tiny import exported

from dpt_deploy.artifact import defects
from dpt_deploy.artifact.defects import KnownBad, known_bad, refuse_wrong, warnings_for
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.jobs.common.runners import open_runner

fast = pytest.mark.fast
SIDECAR = Sidecar.from_json((TESTS / "golden/sidecars_format_1/tiny-vit-int8.onnx.json").read_bytes())


@fast
def test_the_table_is_read_and_every_row_has_a_thread_and_a_remedy():
    rows = known_bad()
    assert len(rows) >= 6
    sources = ("https://github.com/", "https://docs.nvidia.com/")
    assert all(row.thread.startswith(sources) and row.remedy and (row.versions or row.below) for row in rows)


@fast
@pytest.mark.parametrize(
    ("library", "version", "traits", "count"),
    [
        ("tensorrt", "11.1.0.106", {"fp32", "depth"}, 1),
        ("tensorrt", "11.1.0.106", {"fp32", "depth", "batch"}, 2),
        ("tensorrt", "11.1.0.106", {"fp16", "batch"}, 0),
        ("tensorrt", "11.2.1.2", {"int8"}, 2),
        ("tensorrt", "10.3.0", {"fp16", "segmentation"}, 1),
        ("tensorrt", "11.3.0.1", {"fp32"}, 0),
        ("tensorrt", "11.3.0.1", {"fp32", "refit"}, 1),
        ("tensorrt", "11.10.0", {"fp32", "batch"}, 0),
        ("tensorrt", "11.4.0.106", {"fp32", "batch", "segmentation"}, 0),
        ("tensorrt_rtx", "11.1.0", {"fp32", "batch"}, 0),
    ],
)
def test_a_row_concerns_its_versions_and_traits_only(library, version, traits, count):
    found = warnings_for(library, version, traits)
    assert len(found) == count
    assert all(version in line and "https://" in line for line in found)


@fast
@pytest.mark.parametrize(
    ("version", "named"),
    [("1.23.2", True), ("1.29.0", True), ("1.29.9rc1", True), ("1.30.0", False), ("1.30rc1", False), ("1.100", False)],
)
def test_versions_below_one_are_compared_as_numbers(version, named):
    row = KnownBad("onnxruntime", "wrong", "https://x", "upgrade", below="1.30")
    assert row.names("onnxruntime", version) is named
    assert not row.names("openvino", version)


@fast
@pytest.mark.parametrize(
    ("version", "precision", "opset", "hint"),
    [
        ("1.24.4", "int8", 23, "upgrade: pip install 'onnxruntime>=1.30'"),
        ("1.29.0", "int8", 20, "or use the int8-cpu file"),
        ("1.23.2", "int8-cpu", 23, "or export with --opset 20"),
        ("1.30.0", "int8", 23, ""),
        ("1.24.4", "int8-cpu", 23, ""),
        ("1.23.2", "int8-cpu", 20, ""),
        ("1.23.2", "fp16", 23, ""),
        ("1.23.2", "fp32", 23, ""),
    ],
)
def test_a_precision_has_a_lowest_version(version, precision, opset, hint):
    sidecar, path = replace(SIDECAR, precision=precision, opset=opset), Path("a.onnx")
    if not hint:
        refuse_wrong("onnxruntime", version, path, sidecar)
        return
    with pytest.raises(IncompatibleError, match=f"onnxruntime {re.escape(version)} cannot be used") as caught:
        refuse_wrong("onnxruntime", version, path, sidecar)
    assert hint in caught.value.hint


def test_a_runtime_that_computes_it_wrong_does_not_open_an_artefact(monkeypatch):
    artifact = exported("tiny-vit", precision="int8")
    monkeypatch.setattr("onnxruntime.__version__", "1.29.0")
    with pytest.raises(IncompatibleError, match="rounds FP16 to INT8 towards zero"), open_runner(artifact, "ort"):
        pass
    with open_runner(artifact, "emu"):  # rounds in FP32, which those versions do right
        pass
    monkeypatch.setattr(defects, "known_bad", tuple)
    with open_runner(artifact, "ort"):
        pass


@fast
def test_the_lowest_version_that_is_installed_computes_everything():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("ort", "ort-gpu"):
        (requirement,) = extras[extra]
        lowest = requirement.partition(">=")[2]
        assert not [row for row in known_bad() if row.refused and row.names("onnxruntime", lowest)]
