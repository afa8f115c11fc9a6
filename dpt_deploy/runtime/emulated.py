"""Runner ``emu``: a 16-bit graph on a CPU in FP32, with every 16-bit tensor rounded to its type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.files import write_errors
from dpt_deploy.runtime.onnxruntime import OrtRunner
from dpt_deploy.runtime.request import RunnerRequest


class EmuRunner(OrtRunner):
    """Runs an FP32 graph that rounds like the file's own; ``emulate(file, target)`` writes that graph."""

    name = "emu"

    def __init__(
        self,
        path: Path,
        *,
        emulate: Callable[[Path, Path], None],
        threads: int | None = None,
        sidecar: Sidecar | None = None,
    ) -> None:
        super().__init__(path, threads=threads, sidecar=sidecar)
        self._emulate = emulate

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        return cls(request.path, emulate=request.part, threads=request.threads, sidecar=request.sidecar)

    def _refuse_wrong(self) -> None:
        """Every version computes the copy right: it rounds in FP32."""

    def __enter__(self) -> Self:
        typed = self._path
        with scratch_folder() as folder:
            self._path = folder / typed.name
            try:
                with write_errors(self._path):
                    self._emulate(typed, self._path)
                return super().__enter__()
            finally:
                self._path = typed
