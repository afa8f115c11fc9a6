"""A job reads each file of an artefact once: what it opened is handed on, not opened again."""

from collections import Counter
from pathlib import Path

import onnx
import pytest
from support.faults.calling import fine
from support.tiny import copied, exported

from dpt_deploy.artifact import store
from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.jobs.build.request import request_engine
from dpt_deploy.jobs.common import reference

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

PHOTOGRAPH = "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture
def hashed(monkeypatch):
    """Count how often each file is hashed, by name."""
    found = Counter()
    sha256_of = store.sha256_of

    def counted(path, *more):
        found[path.name] += 1
        return sha256_of(path, *more)

    for module in (store, reference):
        monkeypatch.setattr(module, "sha256_of", counted)
    return found


def once(*names):
    return dict.fromkeys(names, 1)


def test_run_hashes_each_payload_once(hashed, capsys, tmp_path):
    path = copied(exported("tiny-vit"), tmp_path).path
    hashed.clear()
    fine(capsys, "run", path, PHOTOGRAPH, "-o", tmp_path / "depth.pfm")
    assert hashed == once(path.name, f"{path.name}.golden.npz")


@pytest.mark.parametrize("options", [("--res", "64", "--batch", "1"), ("--golden",)], ids=["pytorch", "golden"])
def test_verify_hashes_each_payload_once(options, hashed, capsys, tmp_path):
    path = copied(exported("tiny-vit"), tmp_path).path
    hashed.clear()
    fine(capsys, "verify", path, *options)
    assert hashed == once(path.name, f"{path.name}.golden.npz")


@pytest.mark.needs("tensorrt_rtx")
def test_build_hashes_each_payload_once(hashed, capsys, tmp_path):
    path = copied(exported("tiny-vit"), tmp_path).path
    hashed.clear()
    fine(capsys, "build", path, "--res", "64", "--library", "tensorrt_rtx", "-o", tmp_path)
    names = (path.name, path.with_suffix(".plan").name)
    assert hashed == once(*names, *(f"{name}.golden.npz" for name in names))


@pytest.fixture
def parsed(monkeypatch):
    """The ONNX files that were parsed, by name."""
    found, load = [], onnx.load

    def counted(file, *args, **options):
        found.append(Path(file).name)
        return load(file, *args, **options)

    monkeypatch.setattr(onnx, "load", counted)
    return found


@pytest.mark.needs("tensorrt_rtx")
def test_build_parses_the_onnx_file_once(parsed, capsys, tmp_path):
    path = copied(exported("tiny-vit"), tmp_path).path
    parsed.clear()
    fine(capsys, "build", path, "--res", "64,64x96", "--batch", "2", "--library", "tensorrt_rtx", "-o", tmp_path)
    assert parsed == [path.name]


@pytest.mark.needs("tensorrt_rtx")
def test_a_refittable_build_reads_its_digests_from_the_same_graph(parsed, tmp_path):
    path = copied(exported("tiny-vit"), tmp_path).path
    parsed.clear()
    assert request_engine(path, (), 1, EngineOptions(refit=True), "tensorrt_rtx").refit is not None
    assert parsed == [path.name]
