"""Folders of a running kit, and calls of the product: each command in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotPossibleError(Exception):
    """Something that cannot be done on this machine, with the reason; not a failure."""


class StepError(Exception):
    """A command that ended with an error; its output is in the step's log."""


@dataclass(frozen=True)
class Place:
    """The folders of one run. A ``quick`` run takes the smallest model only."""

    kit: Path
    work: Path
    results: Path
    quick: bool = False

    @property
    def models(self) -> Path:
        return self.work / "models"

    @property
    def part_folders(self) -> list[Path]:
        """Folders with parts of the kit: its own, and those next to it with its name and a suffix (``gpu-kit.1``)."""
        return [self.kit, *sorted(self.kit.parent.glob(f"{self.kit.name}.*"))]

    @property
    def site(self) -> Path:
        """Folder of the distributions that the machine lacks, as pip would have installed them."""
        return self.work / "site"

    @property
    def native(self) -> Path:
        """Folder of the C++ library and its programs, where the kit has them."""
        return self.work / "native/native"

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON document of the results; empty if there is none."""
        path = self.results / name
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write a JSON document into the results atomically."""
        new = self.work / f"{name}.new"
        new.write_text(json.dumps(data, indent=1) + "\n")
        new.replace(self.results / name)

    def environment(self, *first: Path) -> dict[str, str]:
        """Environment of a command: it finds ``first``, the probe's library, the kit's wheels and the product."""
        chosen = self.read("probe.json").get("folder")
        folders = [*first, *([Path(chosen)] if chosen and not first else []), self.site, self.work / "source/source"]
        ort = self.work / "onnxruntime-gpu"
        folders = [*(sorted(ort.iterdir()) if ort.is_dir() else []), *folders]
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
        if chosen and self.native.is_dir():
            libraries = [self.native, *Path(chosen).glob("tensorrt_rtx_libs"), *_cuda_folders()]
            found["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, libraries), os.environ.get("LD_LIBRARY_PATH", "")])
            found["DPT_DEPLOY_LIBRARY"] = str(self.native / "libdpt.so")
        return found

    def call(self, *arguments: object, result: str = "") -> str:
        """Run this Python with ``arguments`` and return its standard output, kept under ``result`` in the results.

        Raises:
            StepError: its exit code is not 0.
        """
        return self.run([sys.executable, *arguments], result=result)

    def run(self, command: Sequence[object], *, result: str = "") -> str:
        """Run a program and return its standard output; :meth:`call` describes ``result``.

        A list in JSON is kept as ``rows`` of a document.

        Raises:
            StepError: its exit code is not 0.
        """
        words = list(map(str, command))
        print("$", shlex.join(["python3" if words[0] == sys.executable else words[0], *words[1:]]), flush=True)
        with subprocess.Popen(
            words, env=self.environment(), cwd=self.work, stdout=subprocess.PIPE, text=True
        ) as started:
            output = "".join(_printed(started.stdout or ()))
        if result and output.lstrip().startswith(("{", "[")):
            found = json.loads(output)
            self.write(result, found if isinstance(found, dict) else {"rows": found})
        if started.returncode:
            raise StepError(f"exit code {started.returncode} from {shlex.join(words[1:6])} ...: see the log")
        return output

    def deploy(self, *arguments: object, result: str = "") -> str:
        """Run one command of the product."""
        return self.call("-m", "dpt_deploy", *arguments, result=result)


def _cuda_folders() -> list[Path]:
    """Folders that may hold CUDA's runtime: of the toolkit, and of the packages that torch brings."""
    packages = [Path(entry) / "nvidia" for entry in sys.path]
    return [Path("/usr/local/cuda/lib64"), *(path for each in packages for path in sorted(each.glob("*/lib")))]


def _printed(lines: Iterable[str]) -> Iterator[str]:
    """Print each line when it comes: the log of a step that is ended at its limit shows how far it came."""
    for line in lines:
        print(line, end="", flush=True)
        yield line


def gpu() -> str:
    """Name of the first GPU; empty without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    done = subprocess.run(
        [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def need_gpu() -> None:
    """Raise :class:`NotPossibleError` without a GPU."""
    if not gpu():
        raise NotPossibleError("no NVIDIA GPU: nvidia-smi is not there or finds none")
