"""Open artefacts in a runtime, and choose the runtime if none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import ONNX, PLAN, Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.size import Size
from dpt_deploy.runtime.registry import REFERENCE, Runtime, find_runtime, runtimes_of
from dpt_deploy.runtime.request import RunnerRequest

# Objects of other rooms that runtimes need, by the name in their records. Named as text: each may need an extra, and is
# imported only when its runtime is opened.
PARTS = {
    "emulate": "dpt_deploy.graph.precision.emulate:write_emulated",
    "check_target": "dpt_deploy.jobs.common.targets:check_target_of",
    "reference": "dpt_deploy.jobs.common.reference:reference_of",
}


def open_runner(
    source: Artifact | Path,
    runtime: str = "ort",
    *,
    threads: int | None = None,
    size: Size | None = None,
    reference: bool = False,
    streams: int = 1,
    in_order: bool = False,
) -> Runner:
    """Make a runner over an artefact, or over a bare ONNX file; it is not yet entered.

    ``threads`` bounds the CPU threads of one operator. ``size`` is a fixed network size, for runtimes that resize
    images themselves. ``reference`` also allows runtimes that run the PyTorch module behind the artefact. ``streams``
    is the number of threads that will call it at once, if it can (:class:`~dpt_deploy.core.runner.ConcurrentRunner`).
    ``in_order`` runs the nodes in the order of the file, in ONNX Runtime.

    Raises:
        UsageError: the runtime is unknown or does not run artefacts of this kind.
        MissingExtraError: a module that it needs is not installed.
        IncompatibleError: an engine that this machine cannot run.
    """
    path, sidecar = (source, None) if isinstance(source, Path) else (source.path, source.sidecar)
    record = find_runtime(runtime)
    _check_kind(record, path, reference=reference)
    part: Any = None
    if record.part:
        part = load_attribute(PARTS[record.part], which=record.extra, purpose=f"runtime {runtime!r}")
    address = runtime if record.served else ""
    say(f"runtime of {path.name}: {record.name} ({record.label})", detail=True)
    return record.open(RunnerRequest(path, sidecar, threads, size, part, streams, address, in_order))


def _check_kind(record: Runtime, path: Path, *, reference: bool) -> None:
    kind = PLAN if path.suffix == f".{PLAN}" else ONNX
    if kind in record.runs or (reference and REFERENCE in record.runs):
        return
    names = ", ".join(runtime.name for runtime in runtimes_of(kind) if not runtime.served)
    if record.runs == (REFERENCE,):
        raise UsageError(f"runtime {record.name!r} does not run exported files", hint=f"use {names}")
    if kind == PLAN:
        raise UsageError(
            f"runtime {record.name!r} runs ONNX files; {path.name} is an engine",
            hint=f"use {names}, or give the .onnx file",
        )
    raise UsageError(
        f"runtime {record.name!r} runs engines; {path.name} is an exported model",
        hint=f"build one first: dpt-deploy build {path.name}",
    )


def default_runtime(sidecar: Sidecar) -> str:
    """Return the runtime of an artefact if none is named.

    It is ``trt`` for an engine; for an ONNX file the one that its precision is made for, else ``ort``.
    """
    made_for = find_precision(sidecar.precision).cpu_runtime if sidecar.kind == ONNX else ""
    return made_for or runtimes_of(sidecar.kind)[0].name


def reference_runtime(sidecar: Sidecar) -> str:
    """Return the runtime whose numbers are evidence for an artefact: an engine's own, else one on a CPU."""
    return default_runtime(sidecar) if sidecar.kind == PLAN else find_precision(sidecar.precision).reference_runtime


def runtime_help(*kinds: str, reference: bool = False) -> str:
    """List the runtimes that take ``kinds`` of artefact, for a help text: "ort: ONNX Runtime; …".

    With ``reference`` those that run the PyTorch module behind an artefact are listed too.
    """
    found = runtimes_of(*kinds, *([REFERENCE] if reference else []))
    return "; ".join(f"{runtime.name}: {runtime.help}" for runtime in found)
