"""An export that takes what a former one made instead of running the exporter: everything around it is the real thing.

:func:`forked` runs it in a process of its own, which kills itself after the named event, waits for a signal, or finds
the disk full. Events of an export, in order: ``staged`` (the private folder is there), ``half`` (one file in it),
``payloads`` (all of them), ``marked`` (the sidecar in it), ``decided`` (the journal in it), ``unmarked`` (the former
sidecar removed), ``moved 1`` … ``moved 3`` (payloads in their place, then the sidecar).
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.faults.fork import Fork

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, payload_of
from dpt_deploy.cli import main as command_line
from dpt_deploy.core.environment import tool_versions
from dpt_deploy.jobs.export import export
from dpt_deploy.jobs.export.request import shapes_of

Notice = Callable[[str], None]
SetAttribute = Callable[[Any, str, Any], None]


def install(set_attribute: SetAttribute, former: Artifact, notice: Notice = lambda _event: None) -> None:
    """Replace the exporter and its first comparison by a copy of what ``former`` holds."""

    def describe_artifact(path: Path, request: Any, spec: Any, source: Any, *_measured: object) -> Sidecar:
        notice("staged")
        made = []
        for payload in former.sidecar.payloads:
            target = path.with_name(payload.name.replace(former.path.name, path.name))
            shutil.copy(former.path.with_name(payload.name), target)
            made.append(payload_of(target))
            notice("half")
        notice("payloads")
        tolerance = request.recipe.parity[request.precision]
        return replace(
            former.sidecar,
            payloads=tuple(made),
            golden=made[-1].name,
            tools=tool_versions(),
            model=spec,
            image=request.recipe.image,
            weights=source,
            precision=request.precision,
            opset=request.graph_opset,
            input_kind=request.input_kind,
            outputs=(replace(former.sidecar.outputs[0], task=request.tasks[0].name, tolerance=tolerance),),
            shapes=shapes_of(request),
            verify=request.recipe.verify,
            parity=None,
        )

    for step in ("fp32_graph", "golden", "prepare"):
        set_attribute(export, step, lambda *_inputs: None)
    set_attribute(export, "write_graphs", lambda _graph, _setup, paths, **_options: dict.fromkeys(paths))
    set_attribute(export, "describe_artifact", describe_artifact)
    set_attribute(export, "_with_first_parity", lambda sidecar, _path: sidecar)


def without_torch(set_attribute: SetAttribute, former: Artifact) -> None:
    """Replace the network too: a fork should not compute with PyTorch."""
    model = SimpleNamespace(spec=former.sidecar.model, landmarks=SimpleNamespace(fp32={}))
    set_attribute(export, "check_export", lambda _request: None)
    set_attribute(export, "build_reference", lambda _spec, source: (model, source, None))


def watch_files(set_attribute: SetAttribute, notice: Notice) -> None:
    """Tell of the steps of a commit."""
    moved = [0]

    def watched(name: str, event: Callable[[Path], str | None]) -> None:
        original = getattr(Path, name)

        def method(self: Path, *args: Any, **options: Any) -> Any:
            result = original(self, *args, **options)
            if found := event(self):
                notice(found)
            return result

        set_attribute(Path, name, method)

    def after_move(path: Path) -> str:
        if path.name.startswith(".commit"):
            return "decided"
        moved[0] += 1
        return f"moved {moved[0]}"

    watched("write_text", lambda path: "marked" if path.name.endswith(".onnx.json") else None)
    watched("unlink", lambda path: "unmarked" if path.name.endswith(".onnx.json") else None)
    watched("replace", after_move)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    print("ready", flush=True)
    time.sleep(60)


def fill_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def forked(former: Artifact, does: str, argv: Sequence[object]) -> Fork:
    """Start ``dpt-deploy ARGV…``, which dies, waits or finds the disk full at an event: ``die:half``, for example."""
    action, _, event = does.partition(":")
    act = {"die": die, "wait": wait, "fill": fill_disk}[action]

    def notice(happened: str) -> None:
        if happened == event:
            act()

    def run() -> None:
        install(setattr, former, notice)
        without_torch(setattr, former)
        watch_files(setattr, notice)
        command_line([str(word) for word in argv])

    return Fork(run)
