"""Runners over the files of artefacts, and which of them is evidence."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.core.artifact import Sidecar
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Runner
from dpt_deploy.runtime import registry

# Precision to the runtime whose numbers are evidence on a CPU: ONNX Runtime computes 16-bit graphs in FP32, ``emu``
# rounds; quantised graphs for engines have 16 bits between their integers.
RUNTIMES = {"fp32": "ort", "fp16": "emu", "bf16": "emu", "int8": "emu", "int8-cpu": "ort", "fp8": "emu"}


def open_runner(path: Path, runtime: str = "ort", *, threads: int | None = None) -> Runner:
    """A runner over an artefact's file (not yet entered).

    Raises:
        UsageError: the runtime does not run files, or is unknown.
        MissingExtraError: what it needs is not installed.
    """
    if runtime != "emu":
        return registry.open_file(path, runtime, threads=threads)
    with extra("export", purpose="runtime 'emu'"):
        from dpt_deploy.graph.precision.emulate import write_emulated
    return registry.open_file(path, runtime, threads=threads, emulate=write_emulated)


def judge_of(sidecar: Sidecar) -> str:
    """The runtime whose numbers are evidence for an artefact on a CPU."""
    return RUNTIMES.get(sidecar.precision, "ort")
