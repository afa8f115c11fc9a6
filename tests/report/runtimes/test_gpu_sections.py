"""What the GPU kit measured: libraries with their messages, engines, the C++ library, timings."""

import pytest
from support import latency

from dpt_deploy.report.runtimes.gpu_sections import GPU_KINDS
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

VERIFIED = {
    "model": "da2-base-fp16",
    "runtime": "trt",
    "weights": "random, seed 0",
    "passed": True,
    "shapes": ["518 batch 1", "518 batch 8"],
    "max": 0.0078,
    "mean": 0.0011,
    "tolerance": {"max": 0.02, "mean": 0.005},
    "layer_times": {"shape": "518 batch 1", "precision": {"fp32": 1e-4, "fp16": 2e-3}, "attention": 4e-4},
}
PART = {"p50": 1.5, "p90": 2.0, "p99": 3.0}
NATIVE = {
    "size": "518x518",
    "frames": 7,
    "first_ms": 10_400.0,
    **{f"{part}_ms": PART for part in ("total", "prepare", "model", "finish")},
}
ROW = {"size": "384", "batch": 1, "contender": "torch-device", "p50_ms": 13.0, "interval_ms": [12.7, 13.2]}


def shown(**changed):
    data = {
        "environment": latency.result()["environment"],
        "recorded": "2030-01-02T00:00:00",
        "torch": {"version": "2.99"},
        "library": "tensorrt_rtx",
        "version": "1.6",
        "tried": [
            {"library": "tensorrt_rtx", "version": "1.7", "reached": "build", "messages": ["ERROR: no"]},
            {"library": "tensorrt_rtx", "version": "1.6", "reached": "compare", "messages": []},
        ],
        "verified": [VERIFIED],
        "native": [{"model": "da2-base-fp16", "rows": [NATIVE]}],
        "timed": [{"model": "tiny-fp16", "weights": "tiny", "rows": [{**ROW, "images_per_second": 76.8}]}],
    }
    return GPU_KINDS["gpu"].show(Result("gpu-x.json", {**data, **changed}), "results")


def test_every_library_says_how_far_it_came():
    text = shown()
    assert "torch 2.99; engines by tensorrt_rtx 1.6; 2030-01-02." in text
    assert "| tensorrt_rtx 1.7 | built an engine and refused to load it |" in text
    assert "| tensorrt_rtx 1.6 | built, loaded and ran an engine with the right result |" in text
    assert "1.7: `ERROR: no`" in text


def test_numbers_are_in_their_cells():
    text = shown()
    cells = "trt | 518 batch 1; 518 batch 8 | passes | 7.8e-03 | 1.1e-03 | 2.0e-02, 5.0e-03"
    times = "518 batch 1: fp16 2.00 ms, fp32 0.10 ms; of it attention 0.40 ms"
    assert f"| da2-base-fp16, random weights | {cells} | {times} |" in text
    assert "| da2-base-fp16 | 518x518 | 7 | 1.50 | 1.50 | 1.50 | 1.50 | 10.4 s |" in text
    assert "| tiny-fp16 | 384, batch 1 | torch-device | 13.00 (12.70 to 13.20) | 77 |" in text


def test_a_failure_and_a_missing_measurement_are_said():
    text = shown(verified=[{**VERIFIED, "passed": False, "layer_times": None}])
    assert "| fails |" in text
    assert "| not measured |" in text


def test_what_was_not_measured_has_no_table():
    text = shown(verified=[{**VERIFIED, "runtime": "ort"}], native=[], timed=[])
    assert "Outputs compared" not in text
    assert "dpt_bench" not in text
    assert "Interleaved" not in text
