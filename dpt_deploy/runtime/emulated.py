"""The runner ``emu``: a typed file on a CPU, every 16-bit tensor rounded as its type says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from dpt_deploy.core.files import write_errors
from dpt_deploy.runtime.onnxruntime import OrtRunner


class EmuRunner(OrtRunner):
    """ONNX Runtime over a graph that stands in for a file: ``emulate`` writes it, given the file and where to."""

    name = "emu"

    def __init__(self, path: Path, *, emulate: Callable[[Path, Path], None], threads: int | None = None) -> None:
        super().__init__(path, threads=threads)
        self._emulate = emulate

    def __enter__(self) -> Self:
        typed = self._path
        with tempfile.TemporaryDirectory(prefix="dpt-deploy-emu-") as folder:
            self._path = Path(folder) / typed.name
            try:
                with write_errors(self._path):
                    self._emulate(typed, self._path)
                return super().__enter__()
            finally:
                self._path = typed
