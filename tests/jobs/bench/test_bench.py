"""The benchmark as a command: what it records, and everything that is refused before minutes of timing."""

import collections
import itertools
import json
import re
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from support.faults.calling import complaint, fine, process
from support.faults.handmade import listing
from support.reporting import recording
from support.tiny import exported

from dpt_deploy.artifact.store import open_artifact, read_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import cached as bench_models
from dpt_deploy.jobs.bench import candidates as table
from dpt_deploy.jobs.bench import case, ceilings, torch_calls
from dpt_deploy.jobs.bench import peak_memory as memory
from dpt_deploy.jobs.bench.bench import BenchRequest, bench_artifact
from dpt_deploy.jobs.predict import photo
from dpt_deploy.measure import ceiling
from dpt_deploy.measure import memory as gauge
from dpt_deploy.measure.timing import Timing
from dpt_deploy.model.checkpoints.huggingface import save_huggingface

QUICK = ("--seconds", "0.001", "--no-memory")


@pytest.fixture(autouse=True)
def _small_ceiling(monkeypatch):
    """A product that costs nothing; its rate means nothing either."""
    monkeypatch.setattr(ceiling, "SIDE", 16)


@pytest.fixture
def path():
    return exported("tiny-vit").path


@pytest.fixture
def untimed(monkeypatch):
    """Nothing may be timed."""

    def refuse(*_args, **_options):
        raise AssertionError("something was timed")

    monkeypatch.setattr(case, "interleave", refuse)


def measured(capsys, *argv):
    return json.loads(fine(capsys, "bench", *argv, "--json"))


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_result_says_what_it_must_be_read_with(path, capsys):
    found = measured(capsys, path, "--res", "64,64x96", *QUICK)
    assert found["kind"] == "latency"
    assert found["model"] == "tiny-vit-fp32"
    assert found["weights"] == "random, seed 0: it has learned nothing"
    assert re.fullmatch(r"PyTorch eager \(BLAS: \w+.*\)", found["contenders"]["torch"])
    assert found["settings"]["ort"] == {"threads": "as many as cores", "spinning": "during a run"}
    assert set(found["settings"]["torch"]) == {"threads", "spinning"}
    assert found["environment"]["processor"]
    assert re.fullmatch(r"the exported model in ONNX Runtime \(.*CPUExecutionProvider\)", found["contenders"]["ort"])
    assert found["sha256"][path.name] == read_sidecar(path).payloads[0].sha256
    assert set(found["environment"]["clocks"]) == {"before", "after"}
    assert [(case["size"], case["rounds"], case["ended_by"]) for case in found["cases"]] == [
        ("64", 6, "time box"),  # three in each order of opening
        ("64x96", 6, "time box"),
    ]
    assert not any(case["enough_rounds"] for case in found["cases"])
    assert set(found["cases"][0]["product_gflop_per_second"]) == {"numpy", "onnxruntime", "torch"}


def test_every_candidate_has_a_row_at_every_size_and_batch(path, capsys):
    found = measured(capsys, path, "--res", "64,32x64", "--batch", "1,2", *QUICK)
    rows = {(row["size"], row["batch"], row["contender"]): row for row in found["rows"]}
    assert set(rows) == set(itertools.product(("64", "32x64"), (1, 2), ("torch", "ort")))
    row = rows["64", 2, "torch"]
    assert row["interval_ms"][0] <= row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert row["images_per_second"] == pytest.approx(2000 / row["p50_ms"])
    assert row["gflop"] == pytest.approx(2 * rows["64", 1, "torch"]["gflop"])
    assert len(row["times_slower_than_ort"]) == 3
    assert rows["64", 2, "ort"]["times_slower_than_ort"] is None
    assert {(step["contender"], step["batch"]) for step in found["scaling"]} == set(
        itertools.product(("torch", "ort"), (1, 2))
    )


@pytest.mark.needs("cv2")
def test_the_way_of_the_shipped_photograph_is_split_at_every_size(path, capsys):
    found = measured(capsys, path, "--res", "64,64x96", "--batch", "2,1", *QUICK)
    ours = {(row["size"], row["batch"]): row["p50_ms"] for row in found["rows"] if row["contender"] == "ort"}
    assert found["photograph"] == "coffee.jpg"
    assert list(found["end_to_end_ms"]) == ["64", "64x96"]
    assert all(list(steps) == ["decode", "prepare", "model", "finish"] for steps in found["end_to_end_ms"].values())
    assert found["end_to_end_ms"]["64x96"]["model"] == ours["64x96", 1]
    assert found["end_to_end_with"] == "ort"
    assert all(value > 0 for steps in found["end_to_end_ms"].values() for value in steps.values())


@pytest.mark.parametrize("options", [["--no-photo"], ["--runtime", "torch"], ["--batch", "2"]], ids=" ".join)
def test_there_is_no_way_to_split(options, path, capsys):
    assert measured(capsys, path, "--res", "64", *options, *QUICK)["end_to_end_ms"] == {}


def test_without_an_image_reader_the_steps_are_left_out_and_that_is_reported(path, monkeypatch, capsys):
    monkeypatch.setattr(photo, "find_spec", lambda name: None if name == "cv2" else name)
    assert call(["bench", str(path), "--res", "64", *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["end_to_end_ms"] == {}
    assert "no image reader is installed (pip install -e '.[images]')" in err


@pytest.mark.needs("cv2")
def test_segmentation_is_split_too(capsys):
    found = measured(capsys, exported("tiny-seg").path, "--res", "64", *QUICK)
    assert set(found["end_to_end_ms"]["64"]) == {"decode", "prepare", "model", "finish"}


def test_only_what_computes_in_the_type_of_the_products_has_a_share():
    timing, best = Timing(np.array([2.0])), Timing(np.array([1e-6]))
    shares = {
        (name, precision): ceilings.share(name, timing, 1000, best, precision, "cpu")
        for name in ("ort", "torch", "hf-ort", "hf-ort-dynamic-int8", "openvino", "openvino-bf16")
        for precision in ("fp32", "int8-cpu")
    }
    none = {("ort", "int8-cpu"), ("openvino", "int8-cpu"), ("openvino-bf16", "fp32"), ("openvino-bf16", "int8-cpu")}
    none |= {("hf-ort-dynamic-int8", "fp32"), ("hf-ort-dynamic-int8", "int8-cpu")}
    assert {key for key, share in shares.items() if share is None} == none


def test_a_product_is_as_fast_as_it_was_alone_or_between_the_rounds():
    slow, fast = Timing(np.array([2.0])), Timing(np.array([1.0]))
    assert ceilings.faster({"a": slow, "b": fast}, {"a": fast, "b": slow}) == {"a": fast, "b": fast}


@pytest.mark.needs("openvino")
def test_openvino_competes_and_multiplies_for_the_ceiling(path, capsys):
    found = measured(capsys, path, "--res", "64", "--runtime", "ort,openvino", "--no-photo", *QUICK)
    assert [row["contender"] for row in found["rows"]] == ["ort", "openvino"]
    assert set(found["cases"][0]["product_gflop_per_second"]) == {"numpy", "onnxruntime", "openvino"}
    assert set(found["settings"]["openvino"].items()) >= {("hint", "LATENCY"), ("streams", "1"), ("rest", "f32")}


@pytest.mark.needs("transformers")
def test_the_plain_export_competes(path, capsys):
    found = measured(capsys, path, "--res", "64", "--runtime", "hf-ort,hf-ort-dynamic-int8,ort", *QUICK)
    assert [row["contender"] for row in found["rows"]] == ["hf-ort", "hf-ort-dynamic-int8", "ort"]
    assert set(found["cases"][0]["product_gflop_per_second"]) == {"numpy", "onnxruntime"}
    assert found["rows"][0]["times_slower_than_ort"][0] > 0


@pytest.mark.needs("transformers")
def test_the_plain_export_is_made_once_and_its_products_are_quantised(path, tmp_path, monkeypatch):
    module = table.reference_module(open_artifact(path))
    plain = table.plain_export("hf-ort", module, Size(64, 64), 1, tmp_path)
    monkeypatch.setattr("torch.onnx.export", None)
    quantised = table.plain_export("hf-ort-dynamic-int8", module, Size(64, 64), 1, tmp_path)
    count = [collections.Counter(node.op_type for node in onnx.load(each).graph.node) for each in (plain, quantised)]
    assert count[1]["MatMulInteger"] > 0
    assert count[1]["MatMul"] + count[1]["Gemm"] < count[0]["MatMul"] + count[0]["Gemm"]


def test_the_blas_of_pytorch_is_read_from_its_build():
    built = "  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80a)\n  - Build settings: BLAS_INFO=open, BUILD_TYPE=Release"
    assert torch_calls._libraries(built) == "BLAS: open, oneDNN v3.12.0"
    assert torch_calls._libraries("  - Build settings: LAPACK_INFO=x") == "BLAS: unknown"


def test_tables_show_ratios_growth_and_that_rounds_were_few(path, capsys):
    shown = fine(capsys, "bench", path, "--res", "64,128", *QUICK)
    for words in ("p50 ms", "p90", "p99", "images/s", "times slower than ort", "attention", "work grew", "prepare ms"):
        assert words in shown
    assert "64, batch 1: 6 rounds in" in shown
    assert "fewer than 30, so p90 and p99 are unreliable" in shown
    assert "memory" not in shown


def test_progress_is_reported_for_every_size(path):
    sizes = (Size(64, 64), Size(32, 32))
    with recording() as reporter:
        bench_artifact(exported("tiny-vit"), BenchRequest(sizes, seconds=0.001))
    assert [task.done for task in reporter.tasks] == [1.0] * 4  # two orders of opening each
    assert [line for line in reporter.lines if line.startswith("timing")] == [
        "timing torch, ort at 64, batch 1",
        "timing torch, ort at 32, batch 1",
    ]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_that_of_a_fresh_process(path, capsys):
    found = measured(capsys, path, "--res", "64", "--seconds", "0.001", "--no-photo")
    weights = read_sidecar(path).payloads[0].size_bytes
    for row in found["rows"]:
        held = row["memory"]
        assert held["error"] == ""
        assert 0 < held["load_peak_bytes"] <= held["peak_bytes"] < 1 << 30
        assert held["peak_bytes"] > weights / 2
    assert "fresh process" in found["memory_method"]


def test_a_process_that_dies_costs_its_own_number_only(path, tmp_path, monkeypatch, capsys):
    deadly = tmp_path / "python"
    deadly.write_text("#!/bin/sh\nkill -9 $$\n")
    deadly.chmod(0o755)
    monkeypatch.setattr(gauge.sys, "executable", str(deadly))
    assert call(["bench", str(path), "--res", "64", "--seconds", "0.001", "--runtime", "ort"]) == 0
    out, err = capsys.readouterr()
    assert "failed" in out
    assert "no memory of ort at 64, batch 1: the measuring process was killed (SIGKILL): out of memory?" in err


def test_a_candidate_that_cannot_be_loaded_is_reported(path, tmp_path):
    (tmp_path / "plain.onnx").write_text("no graph")
    found = memory.measure("hf-ort", exported("tiny-vit"), tmp_path / "plain.onnx", Size(64, 64), 1)
    assert found.peak_bytes is None
    assert "BadFileError" in found.error


@pytest.mark.parametrize(
    ("torch", "expected"),
    [
        (None, None),
        (SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)), None),
        (SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, max_memory_allocated=lambda: 7)), 7),
        (SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, max_memory_allocated=lambda: 0)), None),
    ],
    ids=["no torch", "no GPU", "a GPU in use", "a GPU that was not used"],
)
def test_memory_of_a_gpu_is_what_pytorch_held(torch, expected, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert memory._device_peak() == expected


# --- files ------------------------------------------------------------------------------------------------------------

NAME = r"latency-tiny-vit-fp32-random-[a-z0-9-]+-\d+c-torch[\w.+]+-ort[\w.+]+-\d{8}\.json"


def test_a_result_is_written_under_a_name_that_says_what_it_is(path, tmp_path, capsys):
    for _ in range(2):  # the second replaces the first
        shown = measured(capsys, path, "--res", "64", "-o", tmp_path / "new" / "results", *QUICK)
    (written,) = (tmp_path / "new" / "results").iterdir()
    assert re.fullmatch(NAME, written.name)
    assert json.loads(written.read_text()) == shown


@pytest.mark.needs("matplotlib")
def test_a_picture_is_drawn(path, tmp_path, capsys):
    fine(capsys, "bench", path, "--res", "64,32", "--plot", tmp_path / "x.svg", *QUICK)
    assert "dpt-deploy, ONNX Runtime" in (tmp_path / "x.svg").read_text()


REFUSED = {
    "out is a file": (("-o", "FILE"), 2, "is a file; expected a folder"),
    "out below a file": (("-o", "FILE/x"), 7, "cannot write"),
    "plot is no picture": (("--plot", "x.txt"), 2, "is not a picture file"),
    "plot below a file": (("--plot", "FILE/x.svg"), 2, "is a file; expected a folder"),
    "plot far below a file": (("--plot", "FILE/x/x.svg"), 7, "cannot write"),
    "photo missing": (("--photo", "absent.jpg"), 4, "absent.jpg"),
    "photo damaged": (("--photo", "FILE"), 4, "FILE"),
    "photo and none": (("--photo", "FILE", "--no-photo"), 2, "exclude each other"),
    "candidate": (("--runtime", "ort,trt9"), 2, "unknown candidate 'trt9'"),
    "size of the rival": (("--runtime", "hf-ort", "--res", "64x96"), 2, "takes square images only"),
    "size": (("--res", "65"), 2, "the nearest legal sizes: 64 or 96"),
    "too few rounds": (("--rounds", "2"), 2, "2 is not in the range x>=3"),
    "baseline missing": (("--check", "absent.json"), 4, "cannot be read"),
    "baseline garbage": (("--check", "FILE"), 4, "is not a recorded benchmark"),
}


@pytest.mark.needs("cv2", "matplotlib")
@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(("options", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_timed(options, code, said, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("garbage")
    before = listing(tmp_path)
    assert said in complaint(capsys, code, "bench", path, *options)
    assert listing(tmp_path) == before


@pytest.mark.needs("transformers")
@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("name", ["hf-ort", "hf-ort-dynamic-int8", "hf-openvino-nncf"])
def test_a_plain_hybrid_at_another_size_is_refused_before_anything_is_timed(name, capsys):
    hybrid, options = exported("tiny-hybrid"), ["--runtime", f"ort,{name}", "--res", "96,64"]
    assert "a hybrid takes 96x96 only" in complaint(capsys, 2, "bench", hybrid.path, *options)
    table.check(name, hybrid, Size(96, 96), 1)


def test_hugging_face_takes_a_hybrid_at_that_size_only(tmp_path):
    transformers = pytest.importorskip("transformers")
    save_huggingface(table.reference_module(exported("tiny-hybrid")), tmp_path)
    model = transformers.AutoModelForDepthEstimation.from_pretrained(tmp_path).eval()
    assert model(torch.zeros(1, 3, 96, 96)).predicted_depth.shape == (1, 96, 96)
    with pytest.raises(ValueError, match="doesn't match model"):
        model(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--backbone", "hybrid", "--res", "100"), 2, "the nearest legal sizes: 96 or 128"),
        (("--backbone", "bass"), 2, "did you mean base?"),
        (("--runtime", "trt9"), 2, "unknown candidate 'trt9'"),
        (("--check", "absent.json"), 4, "cannot be read"),
    ],
    ids=["size", "backbone", "candidate", "baseline"],
)
def test_what_cannot_be_is_refused_before_anything_is_exported(options, code, said, monkeypatch, capsys):
    monkeypatch.setattr(bench_models, "export_model", None)  # calling it would be a TypeError
    assert said in complaint(capsys, code, "bench", *options)


# --- held to a recorded run -------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(path, tmp_path, capsys):
    """A baseline of this machine; called with a change to what it holds."""
    data = measured(capsys, path, "--res", "64", *QUICK)

    def write(change=lambda _data: None):
        change(data)
        (tmp_path / "baseline.json").write_text(json.dumps(data))
        return tmp_path / "baseline.json"

    return write


def ratio(*values):
    def change(data):
        data["rows"][0]["times_slower_than_ort"] = values

    return change


def test_a_run_passes_a_baseline_it_is_better_than(recorded, path, capsys):
    fine(capsys, "bench", path, "--res", "64", "--check", recorded(ratio(1e-6, 1e-6, 1e-6)), *QUICK)


def test_a_run_fails_a_baseline_it_is_worse_than_and_is_shown_and_written(recorded, path, tmp_path, capsys):
    options = ["--res", "64", "--check", str(recorded(ratio(1e6, 1e6, 1e6))), "-o", str(tmp_path / "out"), *QUICK]
    assert call(["bench", str(path), *options]) == 5
    out, err = capsys.readouterr()
    assert "times slower than ort" in out
    assert "error: slower than recorded: torch at 64, batch 1" in err
    assert len(list((tmp_path / "out").iterdir())) == 1


ELSEWHERE = {
    "processor": (lambda data: data["environment"].update(processor="Z80"), 6, "processor 'Z80', here"),
    "cores": (lambda data: data["environment"].update(cores=4096), 6, "cores 4096, here"),
    "gpu": (lambda data: data["environment"].update(gpus=["NVIDIA X"]), 6, "gpus ['NVIDIA X'], here"),
    "model": (lambda data: data.update(model="base-fp32"), 6, "model 'base-fp32', here 'tiny-vit-fp32'"),
    "size": (lambda data: data["rows"][0].update(size="96"), 4, "it has torch at 96, batch 1"),
    "candidate": (lambda data: data["rows"][0].update(contender="hf-ort"), 4, "it has hf-ort at 64, batch 1"),
}


@pytest.mark.parametrize(("change", "code", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_baseline_that_does_not_fit_is_refused_before_anything_is_timed(
    change, code, said, recorded, path, monkeypatch, capsys
):
    baseline = recorded(change)
    monkeypatch.setattr(case, "interleave", None)  # calling it would be a TypeError
    assert said in complaint(capsys, code, "bench", path, "--res", "64", "--check", baseline, *QUICK)


def test_a_run_without_ours_cannot_be_held_to_anything(recorded, path, capsys):
    options = ["--res", "64", "--runtime", "torch", "--check", recorded(), *QUICK]
    assert "including ort" in complaint(capsys, 4, "bench", path, *options)


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["timing", "measuring the memory"])
def test_an_interrupted_run_leaves_nothing(stage, path, tmp_path):
    # Long enough to be met in the middle: a minute of timing, or a process of its own for each of six sizes.
    seconds, res = ("60", "64") if stage == "timing" else ("0.001", "32,64,96,128,160,192")
    options = ["--res", res, "--runtime", "ort", "--no-photo", "--seconds", seconds, "-o", tmp_path / "out"]
    options += ["--rounds", "1000000"]  # fast rounds must not end it before the signal comes
    with process(["dpt_deploy", "bench", path, *options], env=None, cwd=tmp_path) as started:
        for line in started.stderr:
            if line.startswith(stage):
                break
        time.sleep(3.0 if stage == "timing" else 0.3)  # the libraries are imported first
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "interrupted" in err
    assert out == ""
    assert listing(tmp_path) == {}
