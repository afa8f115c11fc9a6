"""Request to open an artefact in a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.core.size import Size


@dataclass(frozen=True)
class RunnerRequest:
    """One artefact to be opened, and how.

    ``sidecar`` is None if only the path is known. ``threads`` bounds the CPU threads of one operator (None: the
    runtime's choice). ``size`` is a fixed network size, for a runner that resizes images itself. ``part`` is the object
    that the runtime's record names under ``part``. ``streams`` is the number of threads that will call ``infer`` at
    once, next to threads that do other work; a runtime that takes one call at a time makes them wait. ``address`` is
    the model on a server, for runtimes that compute there. ``in_order`` asks for the order of the file: a graph with
    outputs from each of its tensors then holds few of them at a time.
    """

    path: Path
    sidecar: Sidecar | None = None
    threads: int | None = None
    size: Size | None = None
    part: Any = None
    streams: int = 1
    address: str = ""
    in_order: bool = False

    def described(self) -> Sidecar:
        """Return the artefact's sidecar, read from disk if only its path is known."""
        return self.sidecar or read_sidecar(self.path)
