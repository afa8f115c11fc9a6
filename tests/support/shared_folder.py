"""A folder that the worker processes of one test run share: one makes a thing, the others find it there."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def run_folder(name: str) -> Iterator[Path]:
    """The folder, while no other worker makes what has this name."""
    folder = _folder()
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def _folder() -> Path:
    """The folder of this run; the last worker to end removes it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"dpt-deploy-tests-{os.getuid()}-{run}"
    folder.mkdir(exist_ok=True)
    in_use = (folder / ".in-use").open("w")
    fcntl.flock(in_use, fcntl.LOCK_SH)
    atexit.register(_leave, folder, in_use)
    return folder


def _leave(folder: Path, in_use: IO[str]) -> None:
    try:
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    shutil.rmtree(folder, ignore_errors=True)
