"""Runners over the files of artefacts, and which of them is evidence."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.store import Artifact, read_sidecar
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.runner import Runner
from dpt_deploy.runtime import registry


def open_runner(model: Artifact | Path, runtime: str = "ort", *, threads: int | None = None) -> Runner:
    """A runner (not yet entered) over an artefact that was opened, or over a bare ONNX file.

    Raises:
        UsageError: the runtime does not run files of this kind, or is unknown.
        MissingExtraError: what it needs is not installed.
        IncompatibleError: an engine that this machine cannot run.
    """
    path = model.path if isinstance(model, Artifact) else model
    if runtime == "trt":
        return _engine_runner(path, model.sidecar if isinstance(model, Artifact) else read_sidecar(path))
    if path.suffix == f".{PLAN}" and runtime != "native":  # the C++ library runs both
        raise UsageError(
            f"runtime {runtime!r} runs ONNX files; {path.name} is an engine",
            hint="leave --runtime out, or give the .onnx file",
        )
    if runtime != "emu":
        return registry.open_file(path, runtime, threads=threads)
    with extra("export", purpose="runtime 'emu'"):
        from dpt_deploy.graph.precision.emulate import write_emulated
    return registry.open_file(path, runtime, threads=threads, emulate=write_emulated)


def _engine_runner(path: Path, sidecar: Sidecar) -> Runner:
    """The runner of a plan that this machine can run; nothing is deserialised yet."""
    from dpt_deploy.jobs.common.targets import check_target_of

    record = sidecar.engine
    if record is None:
        raise UsageError(
            f"runtime 'trt' runs engines; {path.name} is an exported model",
            hint=f"build one first: dpt-deploy build {path.name}",
        )
    check_target_of(record)
    runner: Runner = registry.runner_class("trt")(
        path, library=record.library, profiles=record.profiles, host_code=record.options.version_compatible
    )
    return runner


def default_runtime(sidecar: Sidecar) -> str:
    """What runs an artefact where nobody says: ``trt`` an engine, ``ort`` an ONNX file."""
    return "trt" if sidecar.kind == PLAN else "ort"


def reference_runtime(sidecar: Sidecar) -> str:
    """The runtime whose numbers are evidence: an engine's own, else one on a CPU."""
    return "trt" if sidecar.kind == PLAN else find_precision(sidecar.precision).reference_runtime
