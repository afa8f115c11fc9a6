"""The command line in this process and in others, and what every complaint must look like."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dpt_deploy.cli import call

TESTS = Path(__file__).parents[2]


def fine(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Run a call that must succeed; its standard output."""
    code = call([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "error:" not in err
    return out


def complaint(capsys: pytest.CaptureFixture[str], code: int, *argv: object) -> str:
    """Run a call that must fail with ``code``; its error and hint, which must be one line each and the last ones."""
    found = call([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    assert out == ""
    return checked(found, code, err)


def checked(found: int, code: int, err: str) -> str:
    """The two lines of the one complaint in ``err``."""
    lines = err.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    assert found == code, err
    assert "Traceback" not in err
    assert starts == [len(lines) - 2], err
    assert lines[-1].startswith("       "), err
    return "\n".join(lines[-2:])


def environment(**changes: str) -> dict[str, str]:
    """That of this process, with the tests importable and one thread."""
    return {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **changes}


def process(argv: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Start ``python -m ARGV…``; it listens to SIGINT even where this process was started in the background."""
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), **options}
    return subprocess.Popen([sys.executable, "-m", *map(str, argv)], **pipes)


def finished(argv: Sequence[object], **options: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``python -m ARGV…``."""
    with process(argv, **options) as started:
        out, err = started.communicate(timeout=120)
    return started.returncode, out, err
