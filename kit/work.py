"""Where a running kit has its things, and how it calls the product: each command in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotPossibleError(Exception):
    """What cannot be done on this machine, and why; no failure."""


class StepError(Exception):
    """A command ended with an error; its output stands in the step's log."""


@dataclass(frozen=True)
class Place:
    """The folders of one run, and whether it is a quick one."""

    kit: Path
    work: Path
    results: Path
    quick: bool = False

    @property
    def models(self) -> Path:
        return self.work / "models"

    @property
    def parts(self) -> tuple[Path, Path]:
        """Where parts of the kit may lie: in the kit, and among those kept from former deliveries."""
        return self.kit, self.work / "parts"

    @property
    def site(self) -> Path:
        """Distributions that the machine lacks, in one folder as pip would have put them."""
        return self.work / "site"

    def read(self, name: str) -> dict[str, Any]:
        """A JSON document of the results; empty where there is none."""
        path = self.results / name
        return json.loads(path.read_text()) if path.is_file() else {}

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """One JSON document into the results, whole or not at all."""
        beside = self.work / f"{name}.new"
        beside.write_text(json.dumps(data, indent=1) + "\n")
        beside.replace(self.results / name)

    def environment(self, *first: Path) -> dict[str, str]:
        """For a command: ``first``, the library chosen by the probe, what the kit brought, the product."""
        chosen = self.read("probe.json").get("folder")
        folders = [*first, *([Path(chosen)] if chosen and not first else []), self.site, self.work / "source/source"]
        ort = self.work / "onnxruntime-gpu"
        folders = [*(sorted(ort.iterdir()) if ort.is_dir() else []), *folders]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}

    def call(self, *arguments: object, result: str = "", first: tuple[Path, ...] = ()) -> str:
        """Run this Python with ``arguments``; its standard output, kept under ``result`` in the results.

        Raises:
            StepError: its exit code is not 0.
        """
        command = [sys.executable, *map(str, arguments)]
        print("$", shlex.join(["python3", *command[1:]]), flush=True)
        done = subprocess.run(
            command, env=self.environment(*first), cwd=self.work, stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, flush=True)
        if result and done.stdout.lstrip().startswith("{"):
            self.write(result, json.loads(done.stdout))
        if done.returncode:
            raise StepError(f"exit code {done.returncode} from {shlex.join(command[1:6])} ...: see the log")
        return done.stdout

    def deploy(self, *arguments: object, result: str = "") -> str:
        """One command of the product."""
        return self.call("-m", "dpt_deploy", *arguments, result=result)


def gpu() -> str:
    """The first GPU as the driver names it; empty without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    done = subprocess.run(
        [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def need_gpu() -> None:
    """Raise :class:`NotPossibleError` where there is no GPU."""
    if not gpu():
        raise NotPossibleError("no NVIDIA GPU: nvidia-smi is not there or finds none")
