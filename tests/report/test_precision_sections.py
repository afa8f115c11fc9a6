"""Sweeps and precisions on the page: every number comes from the record, every refusal with its message."""

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

MACHINE = {"processor": "a processor", "cores": 2, "gpus": [], "tools": {"torch": "2.99.0"}}


def point(precision, ms, *, best=False):
    return {
        "model": "small",
        "precision": precision,
        "size": "64",
        "runtime": "ort" if ms else "emu",
        "abs_rel": 0.25,
        "ms": ms,
        "best": best,
    }


SWEEP = {
    "kind": "sweep",
    "environment": MACHINE,
    "images": 12,
    "data": {"name": "rendered scenes"},
    "points": [
        point("fp32", [20.0, 19.0, 21.0]),
        point("int8-cpu", [10.0, 9.5, 11.0], best=True),
        point("fp8", None),
        point("fp32", [15.0, 14.0, 16.0]) | {"approximation": "tokens-merge-2-30"},
    ],
    "precisions": [{"subject": "small int8-cpu", "abs_rel": [{"value": 1.5, "low": -0.25, "high": 3.0}]}],
}
ENGINE = {"built": True, "bytes": 12_300_000, "operations": {"fp16": 0.75, "fp32": 0.25}}


def file(name, **changes):
    row = {
        "network": name,
        "asked": "fp16",
        "exported": True,
        "model": f"{name}-fp16",
        "bytes": 4_500_000,
        "size": 64,
        "worth": None,
        "verify": {"passed": True, "max": 0.00087, "mean": 0.0002, "agreement": None},
        "pytorch": {"max": 0.0013, "mean": 0.0002},
        "onnxruntime": "runs",
        "engine": ENGINE,
    }
    return row | changes


PRECISIONS = {
    "kind": "precisions",
    "environment": MACHINE,
    "rows": [
        file("small"),
        file(
            "wide",
            worth={"sqnr": 25.04},
            onnxruntime="no kernel",
            engine={"built": False, "message": "error: no | deconv"},
        ),
        file(
            "labels", verify={"passed": False, "max": None, "mean": None, "agreement": 0.985}, onnxruntime="no kernel"
        ),
        {"network": "odd", "asked": "fp8", "exported": False, "message": "error: too odd"},
    ],
}
MEMORY = {
    "kind": "calibration-memory",
    "model": "small",
    "images": 500,
    "sizes": ["64", "96"],
    "weights_bytes": 400_000_000,
    "peak_bytes": 2_100_000_000,
    "peak_bytes_of_fp32": 1_500_000_000,
    "peak_bytes_of_few": 2_000_000_000,
    "few": 10,
    "seconds": 600.0,
}


def compared(maker, runtime, mean, **changes):
    errors = {"mean": [mean, 3 * mean], "max": [0.1, 0.3], "sqnr": 20.0, "abs_rel": [0.25, 0.35]}
    return {"maker": maker, "runtime": runtime, "bytes": 1000, **errors, **changes}


NNCF = {
    "kind": "nncf",
    "networks": [
        {
            "environment": {**MACHINE, "nncf": "9.8.7"},
            "network": "small",
            "weights": "trained",
            "size": "64x64",
            "opset": 23,
            "images": 2,
            "calibration_images": 4,
            "fp32_abs_rel": [0.2, 0.3],
            "files": [
                compared("ours", "ort", 0.01),
                compared("nncf", "ort", 0.02),
                compared("ours", "openvino", 0.01),
                {"maker": "nncf", "runtime": "openvino", "bytes": 1000, "message": "no kernel"},
            ],
            "paired": {"ort": {"value": 0.5, "low": 0.4, "high": 0.6}, "openvino": None},
            "speed": {"openvino": {"ratio": [1.1, 1.0, 1.2], "rounds": 9}, "openvino-bf16": {"message": "no BF16"}},
        }
    ],
}


SMOOTHING = {
    "kind": "smoothing",
    "environment": MACHINE,
    "networks": [
        {
            "network": "small",
            "weights": "trained",
            "size": "64",
            "images": 24,
            "smoothed_norms": 12,
            "ratio": {"value": 0.976, "low": 0.919, "high": 1.052},
        }
    ],
}


def page(data):
    return render([Result("result.json", data)]).text


def test_a_sweep_shows_times_where_there_are_any():
    shown = page(SWEEP)
    assert "a processor, 2 cores, torch 2.99.0; 12 images of rendered scenes." in shown
    assert "| small | int8-cpu | 64 | ort | 0.2500 | 10.0 (9.5 to 11.0) | yes |" in shown
    assert "| small | fp8 | 64 | emu | 0.2500 | - |  |" in shown
    assert "| small | fp32 tokens-merge-2-30 | 64 | ort | 0.2500 | 15.0 (14.0 to 16.0) |  |" in shown
    assert "| small int8-cpu | +1.50 (-0.25 to +3.00) |" in shown
    assert "![error over time](results/result.svg)" in shown


@pytest.mark.parametrize(
    ("flags", "said"), [(["avx2"], True), (["avx2", "avx_vnni"], False), ([], False), (None, False)]
)
def test_a_processor_without_units_for_8_bits_is_said_to_have_none(flags, said):
    sweep = SWEEP | {"environment": MACHINE | ({"cpu_flags": flags} if flags is not None else {})}
    assert ("no unit for 8-bit products" in page(sweep)) is said


def test_every_file_has_a_row_and_every_refusal_its_message():
    shown = page(PRECISIONS)
    assert "| small-fp16 | 4.5 | 64 | 8.7e-04 | 2.0e-04 | 1.3e-03 | - | runs | builds | 12.3 | 75 % |" in shown
    assert "| wide-fp16 | 4.5 | 64 | 8.7e-04 | 2.0e-04 | 1.3e-03 | 25.0 dB | no | no | - | - |" in shown
    assert "labels 98.5 %" in shown
    assert "- ONNX Runtime, wide-fp16, labels-fp16: `no kernel`" in shown
    assert "- TensorRT-RTX, wide-fp16: `error: no | deconv`" in shown
    assert "- verify, labels-fp16: `above its tolerance`" in shown
    assert "- export, odd fp8: `error: too odd`" in shown
    assert "Refusals" not in page({**PRECISIONS, "rows": [file("small")]})


def test_memory_is_reported_above_the_model():
    assert "| small | 500 | 64, 96 | 0.40 GB | 2.10 GB | 2.00 GB (10 images) | 1.50 GB | 0.60 GB | 10 min |" in page(
        MEMORY
    )


def test_files_are_compared_with_those_of_nncf_and_a_failure_is_a_row():
    shown = page(NNCF)
    assert "torch 2.99.0; NNCF 9.8.7; files of opset 23." in shown
    assert "| small | trained | 64x64 | ort | ours | 2.00e-02 | 2.00e-01 | 20.0 dB | 0.3000 (0.2500) |" in shown
    assert "| 0.3000 (0.2500) | 0.50 (0.40 to 0.60) |" in shown
    assert "| small | trained | 64x64 | openvino | nncf | no kernel | - | - | - | - |" in shown
    assert "| small | 64x64 | openvino | 1.10 (1.00 to 1.20) | 9 |" in shown
    assert "| small | 64x64 | openvino-bf16 | no BF16 | - |" in shown


def test_each_machine_has_its_own_tables_and_one_without_units_is_named_and_may_lack_speeds():
    (first,) = NNCF["networks"]
    without = {**first["environment"], "processor": "an older one", "cpu_flags": ["avx2"]}
    shown = page({**NNCF, "networks": [first, {**first, "environment": without, "speed": {}}]})
    assert shown.count("| network | weights | size |") == 2
    assert shown.count("| network | size | runtime | our speed") == 1
    assert "an older one, 2 cores, torch 2.99.0; NNCF 9.8.7; files of opset 23. The processor has no unit" in shown


def test_smoothing_has_a_ratio_with_its_interval():
    assert "| small | trained | 64 | 24 | 12 | 0.98 (0.92 to 1.05) |" in page(SMOOTHING)


@pytest.mark.parametrize(
    ("data", "key"),
    [(SMOOTHING, "networks"), (SWEEP, "points"), (PRECISIONS, "rows"), (NNCF, "networks"), (MEMORY, "peak_bytes")],
)
def test_a_record_that_lacks_something_is_named(data, key):
    with pytest.raises(BadFileError, match=r"result\.json lacks"):
        page({name: value for name, value in data.items() if name != key})
