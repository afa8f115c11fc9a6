"""Clocks and load are recorded where the system tells them, and are absent where it does not."""

from __future__ import annotations

import stat

import pytest

from dpt_deploy.core import environment
from dpt_deploy.core.environment import clocks, gpus
from dpt_deploy.jobs import doctor

pytestmark = pytest.mark.fast


@pytest.fixture
def no_scaling(monkeypatch):
    """A machine without frequency scaling, as virtual ones are; its /proc/cpuinfo is given by the test."""

    def given(text, tmp_path):
        (tmp_path / "cpuinfo").write_text(text)
        real = environment.Path

        def path(name):
            return real(tmp_path / ("cpuinfo" if name == "/proc/cpuinfo" else "absent"))

        monkeypatch.setattr(environment, "Path", path)
        monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _pid: {0, 2}, raising=False)

    return given


def test_the_lowest_and_highest_clock_of_the_processors_in_use(no_scaling, tmp_path):
    no_scaling("cpu MHz\t: 2000.5\ncpu MHz\t: 9999\ncpu MHz\t: 3100\n", tmp_path)
    assert clocks()["cpu_mhz"] == [2000.5, 3100.0]


UNITS = {  # flags in /proc/cpuinfo -> is each fine, and words of what follows from it
    "avx2 avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16": (
        (True, "AVX-512 VNNI, AMX: int8-cpu files are faster"),
        (True, "AVX-512 BF16, AMX: --runtime openvino-bf16"),
    ),
    "avx2 avx_vnni": ((True, "AVX VNNI: int8-cpu"), (False, "openvino-bf16 does not run")),
    "sse4_2 avx2 avx512f": ((False, "prefer FP32 files"), (False, "neither AVX-512 BF16 nor AMX")),
    "avx512_vnni_x": ((False, "neither VNNI nor AMX"), (False, "use ort or openvino")),  # a flag is a whole word
}


@pytest.mark.parametrize("flags", UNITS)
def test_the_units_of_the_processor_decide_between_files_and_runtimes(flags, no_scaling, tmp_path):
    no_scaling(f"model name\t: some cpu\nflags\t\t: fpu {flags} sse\n", tmp_path)
    found = doctor._vector_units()
    assert [each.fine for each in found] == [fine for fine, _ in UNITS[flags]]
    assert all(words in each.detail for each, (_, words) in zip(found, UNITS[flags], strict=True))


def test_a_machine_that_tells_no_clock_has_none(no_scaling, tmp_path):
    no_scaling("model name\t: some cpu\n", tmp_path)
    assert clocks()["cpu_mhz"] is None


def test_the_load_is_recorded():
    assert len(clocks()["load_average"]) == 3


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver's tool that answers with its own arguments, or fails."""

    def make(script):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_clocks_of_a_gpu_are_asked_of_the_driver(driver):
    driver('echo "$1"; echo second')
    assert clocks()["gpus"] == ["--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw", "second"]


@pytest.mark.parametrize("script", ["exit 9", "echo broken; exit 1"], ids=["silent", "loud"])
def test_a_broken_driver_is_no_gpu(driver, script):
    driver(script)
    assert clocks()["gpus"] == gpus() == []


def test_versions_of_what_extras_install_are_recorded():
    recorded = environment._recorded_packages()
    assert recorded[0] == "dpt-deploy"
    assert {"numpy", "torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "cuda-python"} <= set(recorded)
    assert not {"click", "rich", "matplotlib", "h5py"} & set(recorded)


def test_a_package_without_metadata_records_python_only(monkeypatch):
    def requires(_name):
        raise environment.metadata.PackageNotFoundError

    monkeypatch.setattr(environment.metadata, "requires", requires)
    monkeypatch.setattr(environment, "_recorded_packages", environment._recorded_packages.__wrapped__)
    assert set(environment.tool_versions()) == {"python"}
