"""A new runtime is a class and a record: every command then takes it (docs/how-to/new-runtime.md has the steps)."""

import json

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.new_runtime import NewRunner
from support.paths import ROOT
from support.study_runs import arguments, outcome
from support.tiny import copied, exported

from dpt_deploy.artifact.sidecar import ONNX
from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.jobs.study import scene_images
from dpt_deploy.measure import ceiling
from dpt_deploy.report.figures.latency_figure import draw_latency
from dpt_deploy.runtime.registry import RUNTIMES, Runtime

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2", "matplotlib")

PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
RECORD = Runtime(
    name="new",
    runner="support.new_runtime:NewRunner",
    runs=(ONNX,),
    label="onnx, in NumPy",
    help="onnx's reference implementation",
    modules=("onnx",),
    extra="export",
    package="onnx",
    precisions=("fp32",),
    colour="#f0e442",
    ability="run ONNX artefacts in NumPy",
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(RUNTIMES, "new", RECORD)
    monkeypatch.setattr(NewRunner, "runs", 0)


@pytest.fixture
def path(tmp_path):
    return copied(exported("tiny-vit"), tmp_path / "artefact").path


@pytest.mark.usefixtures("registered")
def test_run(path, tmp_path, capsys):
    for runtime in ("new", "ort"):
        fine(capsys, "run", path, PHOTOGRAPH, "--runtime", runtime, "--size", "64", "-o", tmp_path / f"{runtime}.pfm")
    found, expected = (read_pfm(tmp_path / f"{runtime}.pfm") for runtime in ("new", "ort"))
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)
    assert NewRunner.runs == 1


@pytest.mark.usefixtures("registered")
def test_verify(path, capsys):
    fine(capsys, "verify", path, "--runtime", "new", "--res", "64", "--batch", "1")
    assert read_sidecar(path).parity.runtime == "new"
    assert NewRunner.runs == 1


@pytest.mark.usefixtures("registered")
def test_bench_and_its_plot(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ceiling, "SIDE", 16)
    options = ("--res", "64", "--seconds", "0.001", "--no-memory", "--no-photo", "--json")
    found = json.loads(fine(capsys, "bench", path, "--runtime", "new,ort", *options))
    assert found["contenders"]["new"] == "the exported model in onnx's reference implementation"
    assert {row["contender"] for row in found["rows"]} == {"new", "ort"}
    draw_latency(found, tmp_path / "plot.svg")
    assert "onnx, in NumPy" in (tmp_path / "plot.svg").read_text()


@pytest.mark.usefixtures("registered")
def test_study(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scene_images, "SCENE_SIDE", 96)
    fine(capsys, *arguments(tmp_path, [str(path)], "--runtime", "new,ort", scenes=2))
    scores = outcome(tmp_path)["abs_rel"]
    assert scores["tiny-vit new"]["96"] == pytest.approx(scores["tiny-vit ort"]["96"], rel=1e-4)


@pytest.mark.usefixtures("registered")
def test_doctor(capsys):
    (check,) = [
        each for each in json.loads(fine(capsys, "doctor", "--json"))["checks"] if each["name"] == RECORD.ability
    ]
    assert check["fine"]


@pytest.mark.parametrize("command", ["run", "verify", "bench", "study"])
def test_a_runtime_without_a_record_is_refused_with_the_known_ones(command, path, capsys):
    first = {"run": (path, PHOTOGRAPH), "study": ("--backbone", path)}.get(command, (path,))
    said = complaint(capsys, 2, command, *first, "--runtime", "new")
    assert "'new'" in said
    assert "known: ort, " in said


def test_a_missing_package_is_named_with_the_line_that_installs_it(path, capsys, monkeypatch):
    missing = Runtime("new", "unheard_of:Runner", (ONNX,), "x", "x", ("unheard_of",), "new", ability="run new")
    monkeypatch.setitem(RUNTIMES, "new", missing)
    said = complaint(capsys, 3, "run", path, PHOTOGRAPH, "--runtime", "new")
    assert "pip install -e '.[new]'" in said
    assert call(["doctor"]) == 0
    assert "missing unheard_of: pip install -e '.[new]'" in " ".join(capsys.readouterr().out.split())
