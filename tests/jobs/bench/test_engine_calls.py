"""Timing of engines, with fakes of CUDA and TensorRT; PyTorch's part computes on the processor."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

import torch
from support.device_kernels import CpuKernels
from support.fake_gpu import freed_at_the_end, install_for
from support.faults.calling import complaint, fine
from support.tiny import copied, exported, tiny_model

from dpt_deploy.artifact import store
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.jobs.bench import bench, candidates, case, engine_calls, torch_calls
from dpt_deploy.jobs.bench import cached as bench_models
from dpt_deploy.jobs.bench.baseline import read_baseline
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.common import targets
from dpt_deploy.jobs.common.inputs import reference_input
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.tensorrt import predictor as device_predictor

pytestmark = pytest.mark.needs("tensorrt_rtx", "torch", "onnxruntime")
QUICK = ("--res", "64", "--seconds", "0.001", "--no-memory")
ALL = "trt,trt-device,torch,torch-device,ort"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A plan as TensorRT-RTX really builds it, with its model next to it."""
    folder = tmp_path_factory.mktemp("engine")
    model = copied(exported("tiny-vit"), folder)
    return build_engine_artifact(model.path, folder, res=parse_ranges("64"), batch=2).artifact


@pytest.fixture
def fakes(engine, monkeypatch):
    """A GPU that is none: its engine averages channels, and PyTorch's "cuda" is the processor."""
    with freed_at_the_end():
        cuda, _ = install_for(monkeypatch, engine.sidecar.engine)
        processor(monkeypatch)
        yield cuda


def processor(monkeypatch):
    monkeypatch.setattr(torch_calls, "CUDA", "cpu")
    monkeypatch.setattr(torch_calls, "check_device", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(ceiling, "DEVICE_SIDE", 16)
    product = TimedCall(lambda: np.ones((16, 16)) @ np.ones((16, 16)), lambda: None)
    monkeypatch.setattr(torch_calls, "product_on_gpu", lambda _dtype: product)


@pytest.fixture
def untimed(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("something was timed or exported")

    monkeypatch.setattr(case, "interleave", refuse)
    monkeypatch.setattr(bench_models, "export_model", refuse)


def measured(capsys, *argv):
    return json.loads(fine(capsys, "bench", *argv, "--json"))


def test_an_engine_competes_and_each_is_held_to_its_like(engine, fakes, capsys, monkeypatch):
    monkeypatch.setattr(bench, "ratio", lambda slow, fast: (slow.median / fast.median,) * 3)  # of p50, as rows state it
    found = measured(capsys, engine.path, "--runtime", ALL, "--batch", "1,2", *QUICK, "--no-photo")
    rows = {(row["contender"], row["batch"]): row for row in found["rows"]}
    assert set(rows) == {(name, batch) for name in ALL.split(",") for batch in (1, 2)}
    for (name, _), row in rows.items():
        assert "times_slower_than_ort" not in row
        assert (row["times_slower_than_trt"] is None) == name.startswith("trt")
    device, engine_there = rows["torch-device", 1], rows["trt-device", 1]
    held_to_its_like = device["p50_ms"] / engine_there["p50_ms"]
    assert device["times_slower_than_trt"][0] == pytest.approx(held_to_its_like)
    assert set(found["cases"][0]["product_gflop_per_second"]) == {"torch"}
    assert fakes.launches > 0


def test_what_was_timed_is_reported(engine, fakes, capsys):
    found = measured(capsys, engine.path, "--runtime", "torch-device,trt-device", *QUICK)
    assert found["contenders"] == {
        "torch-device": "PyTorch eager between arrays of the device, float32 on the GPU",
        "trt-device": "the engine between arrays of the device",
    }
    assert "here of the GPU" in found["protocol"]
    held, ours = (row["times_slower_than_trt"] for row in found["rows"])
    assert (len(held), ours) == (3, None)  # to trt-device, where it is alone


def test_the_enqueue_alone_tells_what_the_runner_costs(engine, fakes, capsys):
    found = measured(capsys, engine.path, "--runtime", "trt-device,trt-enqueue-device", "--batch", "1,2", *QUICK)
    held = {(row["contender"], row["batch"]): row["times_slower_than_trt"] for row in found["rows"]}
    assert [held["trt-device", batch] for batch in (1, 2)] == [None, None]
    assert all(len(held["trt-enqueue-device", batch]) == 3 for batch in (1, 2))


@pytest.mark.needs("compiler")
def test_frames_are_held_to_the_network_alone_and_reported_in_their_parts(engine, fakes, capsys, monkeypatch):
    monkeypatch.setattr(engine_calls, "FRAME", (90, 160))
    monkeypatch.setattr(device_predictor, "kernels_of", lambda _device: CpuKernels(fakes))
    names = "trt-device,trt-frame,trt-frames"
    found = measured(capsys, engine.path, "--runtime", names, *QUICK, "--no-photo")
    alone, frame, frames = found["rows"]
    assert [len(row["times_slower_than_trt"] or ()) for row in found["rows"]] == [0, 3, 3]
    assert list(frame["parts_ms"]) == ["upload", "prepare", "model", "finish", "download"]
    assert all(value > 0 for value in frame["parts_ms"].values())
    assert "parts_ms" not in {**alone, **frames}
    assert "1080x1920 from host to host, resized on the GPU, one at a time" in found["contenders"]["trt-frame"]
    shown = fine(capsys, "bench", engine.path, "--runtime", names, *QUICK, "--no-photo")
    assert "parts of a run, timed alone and together" in shown
    assert "frames" in shown


def test_frames_come_one_at_a_time(engine, fakes, untimed, capsys):
    said = complaint(capsys, 2, "bench", engine.path, "--runtime", "trt-frames", "--batch", "1,2", "--no-photo", *QUICK)
    assert "trt-frames takes one image at a time, not 2" in said


def test_by_default_an_engine_meets_pytorch(engine, fakes, capsys):
    shown = fine(capsys, "bench", engine.path, *QUICK, "--no-photo")
    assert "times slower than trt" in shown


@pytest.mark.needs("cv2")
def test_the_model_next_to_an_engine_is_hashed_once(engine, fakes, monkeypatch, capsys):
    hashed, sha256_of = [], store.sha256_of
    monkeypatch.setattr(store, "sha256_of", lambda path: [hashed.append(path.name), sha256_of(path)][1])
    measured(capsys, engine.path, "--runtime", "trt,ort", "--batch", "1,2", *QUICK)
    assert hashed.count(engine.path.name) == hashed.count(engine.sidecar.parents[0].name) == 1


@pytest.mark.needs("cv2")
def test_the_way_of_a_photograph_goes_through_the_engine(engine, fakes, capsys):
    found = measured(capsys, engine.path, "--runtime", "trt", *QUICK)
    assert list(found["end_to_end_ms"]["64"]) == ["decode", "prepare", "model", "finish"]
    assert found["end_to_end_with"] == "trt"


def test_a_result_is_a_baseline_and_its_name_tells_gpu_and_library(engine, fakes, capsys, tmp_path, monkeypatch):
    there = {"processor": "p", "cores": 2, "gpus": ["Fake 9, 580.1"], "tools": {}}
    monkeypatch.setattr(bench, "machine", lambda: there)
    fine(capsys, "bench", engine.path, "--runtime", "trt,torch", *QUICK, "--no-photo", "-o", tmp_path)
    (path,) = tmp_path.glob("latency-*.json")
    assert f"-fake-9-tensorrt-rtx{engine.sidecar.engine.version}-" in path.name
    assert set(read_baseline(path).ratios) == {("64", 1, "torch")}


# --- PyTorch in the engine's type -------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_device", [True, False], ids=["device", "host"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_pytorch_computes_in_the_type_of_the_engine(precision, on_device, monkeypatch):
    processor(monkeypatch)
    sidecar = exported("tiny-vit").sidecar
    artifact = SimpleNamespace(sidecar=SimpleNamespace(**{**vars(sidecar), "precision": precision}))
    module, images = copy.deepcopy(tiny_model("tiny-vit")).eval(), structured_images(1, 64, 64)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(reference_input(sidecar, images)["pixel_values"])).numpy()
    options = {"device": "cuda", "compiled": False, "on_device": on_device}
    with torch_calls.torch_call(artifact, module, images, **options) as call:
        found = call.run()
    found = found if on_device else torch.from_numpy(found["predicted_depth"])
    if on_device:
        assert str(found.dtype) == f"torch.{find_precision(precision).torch_type}"
    error = np.abs(found.float().numpy() - wanted).max() / np.ptp(wanted)
    assert 0 < error < 0.1  # it is not the same type, and it is the same network
    assert next(module.parameters()).dtype == torch.float32


def test_a_candidate_is_compared_with_the_reference_on_the_same_path():
    names = ("trt", "trt-device", "torch", "torch-device")
    held = {name: candidates.counterpart(name, names) for name in names}
    assert held == {"trt": "", "trt-device": "", "torch": "trt", "torch-device": "trt-device"}
    assert candidates.counterpart("torch-device", ("torch-device", "ort")) == ""
    assert candidates.counterpart("torch", ("torch", "ort")) == "ort"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_without_a_gpu_an_engine_is_refused_before_anything_is_timed(engine, untimed, capsys, monkeypatch):
    monkeypatch.setattr(targets, "gpu_devices", list)
    said = complaint(capsys, 6, "bench", engine.path, "--runtime", "trt", "--no-photo", *QUICK)
    assert "needs an NVIDIA GPU to run; the driver finds none" in " ".join(said.split())


def test_without_a_gpu_no_engine_is_made_for_timing(untimed, capsys, monkeypatch):
    monkeypatch.setattr(bench_models, "gpu_devices", list)
    assert "the driver finds none" in complaint(capsys, 6, "bench", "--runtime", "trt,torch", "--no-photo", *QUICK)


def test_an_engine_for_timing_is_made_of_the_fp16_model(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(bench_models, "gpu_devices", lambda: [Gpu("Fake", "8.9", "580.1", 1 << 34)])
    monkeypatch.setenv("DPT_DEPLOY_CACHE", str(tmp_path))

    def export(request, folder):
        asked.append((request.recipe.name, request.precision))
        return SimpleNamespace(artifact=SimpleNamespace(path=folder / "x-fp16.onnx"))

    def build(path, folder, *, res, batch, measure):
        assert not measure
        asked.append((path.name, [str(entry) for entry in res], batch))
        return SimpleNamespace(artifact="the engine")

    monkeypatch.setattr(bench_models, "export_model", export)
    monkeypatch.setattr(bench_models, "build_engine_artifact", build)
    sizes = [entry.low for entry in parse_ranges("64,64x96")]
    assert bench_models.cached_engine("tiny", sizes, (1, 4)) == "the engine"
    assert asked == [("tiny", "fp16"), ("x-fp16.onnx", ["64", "64x96"], 4)]


@pytest.mark.parametrize(
    ("code", "runtime", "more", "said"),
    [
        (2, "trt", (), "trt times engines; tiny-vit-fp32.onnx is an exported model"),
        (2, "torch-device", (), "torch-device is timed on a GPU"),
        pytest.param(
            6,
            "torch",
            ("--device", "cuda"),
            "finds no NVIDIA GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
    ],
    ids=["model", "device", "cuda"],
)
def test_what_needs_a_gpu_or_an_engine_says_so(code, runtime, more, said, untimed, capsys):
    path = exported("tiny-vit").path
    assert said in complaint(capsys, code, "bench", path, "--runtime", runtime, *more, "--no-photo", *QUICK)


def test_an_engine_without_its_model_is_not_counted(engine, fakes, untimed, tmp_path, capsys):
    alone = copied(engine, tmp_path)
    said = complaint(capsys, 4, "bench", alone.path, "--runtime", "trt", "--no-photo", *QUICK)
    assert "the model tiny-vit-fp32.onnx that tiny-vit-fp32.plan was built from is not next to it" in said
    copied(exported("tiny-vit", opset=20), tmp_path)  # of the same name, and another
    assert "is not next to it" in complaint(capsys, 4, "bench", alone.path, "--runtime", "trt", "--no-photo", *QUICK)


def test_a_size_outside_the_profiles_names_them(engine, fakes, untimed, capsys):
    argv = ("bench", engine.path, "--runtime", "trt", "--no-photo", "--res", "96")
    assert "its profiles: 64 batch 1; 64 batch 2" in complaint(capsys, 2, *argv)
