"""The C++ runtime as the tests use it: built once in ``build/``, by whichever worker comes first."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord
from dpt_deploy.artifact.store import Artifact, write_sidecar
from dpt_deploy.core.profile import Profile
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.measure.metrics import range_error

ROOT = Path(__file__).parents[2]
_SECONDS = 900  # for the slowest machine; a build that hangs is a failure


def cpp_difference(path: Path, image: np.ndarray) -> float:
    """Largest difference of depth between the C++ library and ONNX Runtime in Python, over its range."""
    native_build()
    maps = []
    for runtime in ("native", "ort"):
        with load(path, runtime=runtime) as predictor:
            maps.append(predictor(image).depth)
    return range_error(*maps)[0]


def cmake(tool: str = "cmake") -> str | None:
    """CMake's program, this environment's before the system's."""
    return shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def run(*command: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command to its end, both streams in ``stdout``."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def done(*command: object, **options: object) -> str:
    """Output of a command that must succeed."""
    finished = run(*command, **options)
    assert finished.returncode == 0, f"{' '.join(map(str, command))}\n{finished.stdout[-4000:]}"
    return finished.stdout


def configured(source: Path, folder: Path, *options: str) -> None:
    chosen = [f"-DPython3_EXECUTABLE={sys.executable}", *options]
    done(cmake(), "-S", source, "-B", folder, *chosen, env={"TENSORRT_ROOT": ""})  # who wants it names it


def built(folder: Path, *targets: str) -> str:
    chosen = ["--target", *targets] if targets else []
    return done(cmake(), "--build", folder, "--parallel", 2, *chosen)


@functools.cache
def native_build(sanitize: str = "") -> Path:
    """The build folder: ``build/cpp``, or one next to it for a sanitizer. Headers are fetched once for all of them.

    The thread sanitizer's has the test of threads and ``dpt_run`` only, and neither ONNX Runtime nor OpenVINO.
    """
    folder = ROOT / "build" / f"cpp{'-' + sanitize.partition(',')[0] if sanitize else ''}"
    headers = ROOT / "build/cpp/dependencies"
    options, targets = [f"-DDPT_SANITIZE={sanitize}", f"-DDPT_DEPENDENCIES={headers}"], []
    if sanitize == "thread":
        native_build()
        options = [
            *options[:1],
            "-DDPT_FETCH=OFF",
            f"-DDPT_JSON_INCLUDE={headers / 'include'}",
            "-DDPT_ONNXRUNTIME_INCLUDE=",
            "-DDPT_OPENVINO=OFF",
        ]
        targets = ["test_threads", "dpt_run"]
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / ".cpp-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configured(ROOT / "cpp", folder, *options)
        built(folder, *targets)
    return folder


def write_ppm(path: Path, image: np.ndarray) -> Path:
    """An RGB image (H, W, 3) as a binary PPM."""
    height, width = image.shape[:2]
    path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + image.tobytes())
    return path


def as_plan(artifact: Artifact) -> Path:
    """Declare an artefact to be an engine of a very old TensorRT; returns its path."""
    path = artifact.path.rename(artifact.path.with_suffix(".plan"))
    shape = (1, 64, 64)
    record = EngineRecord(
        library="tensorrt",
        version="1.2.3.4",
        device=None,
        profiles=(Profile(shape, shape, shape),),
        options=EngineOptions(),
        weight_bytes=0,
        activation_bytes=0,
        seconds=0.0,
        audit=AuditRecord("network", {}, {}, {}),
    )
    payload = replace(artifact.sidecar.payloads[0], name=path.name)
    write_sidecar(path, replace(artifact.sidecar, kind="plan", engine=record, payloads=(payload,), golden=""))
    return path
