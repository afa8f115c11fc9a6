"""A file with two outputs becomes an engine, whose outputs are measured, run and verified by name, over fakes."""

import json

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support.fake_gpu import GPU, computed, freed_at_the_end, install_over_builder
from support.faults.calling import complaint, fine
from support.paths import ROOT
from support.tiny import copied, tiny_path

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.imaging.files import read_pfm
from dpt_deploy.jobs.bench import torch_calls
from dpt_deploy.jobs.build import profile_times
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.measure.timing import TimedCall

pytestmark = pytest.mark.needs("tensorrt_rtx", "torch", "onnxruntime", "cv2")

BOTH = ["predicted_depth", "logits"]
PHOTO = ROOT / "dpt_deploy/data/photographs/coffee.jpg"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    recipe = load_recipe(tiny_path("tiny-vit"), task="both", classes=2)
    request = ExportRequest(recipe, weights="random", static=Size(64, 64))
    return export_model(request, tmp_path_factory.mktemp("joint")).artifact


@pytest.fixture
def engine(model, monkeypatch, tmp_path):
    """The real builder's plan; the fake that "runs" it returns other numbers."""
    model, options = copied(model, tmp_path), {"res": parse_ranges("64"), "batch": 2, "library": "tensorrt_rtx"}
    with freed_at_the_end():
        _, trt = install_over_builder(monkeypatch, "tensorrt_rtx", lay_out_profiles(parse_ranges("64"), 2))
        trt.outputs = tuple(BOTH)
        monkeypatch.setattr(profile_times, "SECONDS", 1e-9)
        yield build_engine_artifact(model.path, tmp_path, **options).artifact


def test_it_builds_with_golden_tensors_of_both_and_its_profiles_are_measured(engine):
    sidecar = open_artifact(engine.path).sidecar
    assert [output.name for output in sidecar.outputs] == BOTH
    assert (sidecar.engine.measured_on, len(sidecar.engine.profile_times)) == (GPU, len(sidecar.engine.profiles))
    with np.load(engine.golden_path) as golden:
        assert {key for key in golden if key != "images"} == {f"output.{name}" for name in BOTH}


def test_run_writes_both_maps(engine, capsys, tmp_path):
    fine(capsys, "run", engine.path, PHOTO, "--size", "64", "-o", tmp_path / "maps")
    depth, labels = f"coffee-{BOTH[0]}", f"coffee-{BOTH[1]}"
    made = {path.name for path in (tmp_path / "maps").iterdir()}
    assert {f"{depth}.pfm", f"{labels}-labels.png"} <= made
    assert read_pfm(tmp_path / "maps" / f"{depth}.pfm").shape == (400, 600)


def test_each_output_is_the_engines(engine):
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    with load(engine.path, size=(64, 64)) as predictor:
        inputs = predictor.prepare(image)
        found = predictor.infer_all(inputs)
    (pixels,) = model_inputs(engine.sidecar, image[None]).values()
    for name in BOTH:
        np.testing.assert_allclose(found[name], computed(name, pixels), rtol=1e-6, atol=1e-6)


def test_verify_compares_each_output_and_names_the_wrong_one(engine, capsys):
    assert call(["verify", str(engine.path), "--golden", "--json"]) == 5
    out, err = capsys.readouterr()
    assert [(case["output"], case["passed"]) for case in json.loads(out)["cases"]] == [(name, False) for name in BOTH]
    assert "in output 'predicted_depth'" in err or "in output 'logits'" in err


def test_bench_times_the_run_of_both(engine, capsys, monkeypatch):
    product = TimedCall(lambda: np.ones((16, 16)) @ np.ones((16, 16)), lambda: None)
    monkeypatch.setattr(torch_calls, "product_on_gpu", lambda _dtype: product)
    options = ("--runtime", "trt,trt-device", "--res", "64", "--seconds", "0.001", "--no-memory", "--no-photo")
    rows = json.loads(fine(capsys, "bench", engine.path, *options, "--json"))["rows"]
    assert [row["contender"] for row in rows] == ["trt", "trt-device"]


def test_bench_resizes_one_map_on_the_gpu_not_several(engine, capsys):
    message = complaint(capsys, 2, "bench", engine.path, "--runtime", "trt,trt-frame", "--res", "64")
    assert "trt-frame resizes one map on the GPU" in message
    assert "leave trt-frame out" in message
