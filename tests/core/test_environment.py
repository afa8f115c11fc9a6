"""Clocks and load are recorded where the system tells them, and are absent where it does not."""

from __future__ import annotations

import stat

import pytest

from dpt_deploy.core import environment
from dpt_deploy.core.environment import clocks, gpus

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
