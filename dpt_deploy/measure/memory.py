"""Peak memory of a fresh process, above what it held before the model was loaded.

A process that has timed other models still holds their memory, its allocators keep freed blocks, and its recorded peak
never falls. Every number therefore comes from a process of its own: :func:`ask` starts it, :class:`Gauge` reads inside.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CHILD = """
import sys, json
sys.path[:] = json.loads(sys.argv[1])
from importlib import import_module
print(json.dumps(import_module(sys.argv[2]).answer(json.loads(sys.argv[3]))))
"""
_RESET_PEAK = "5"  # proc(5): sets the peak resident set to the current one


class ChildError(Exception):
    """The measuring process returned no result; the message gives the reason."""


class Gauge:
    """Peak resident set of this process since the gauge was made, in bytes above what was resident then.

    Resident memory is physical memory: touched allocations and mapped parts of files. Only Linux can reset its recorded
    peak. Elsewhere an earlier peak may hide a lower one, and the number is a lower bound; ``exact`` tells which.
    """

    def __init__(self) -> None:
        self.exact = _reset_peak()
        self._start = _peak_bytes()

    def read(self) -> int:
        return max(0, _peak_bytes() - self._start)


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _peak_bytes() -> int:
    text = _STATUS.read_text() if _STATUS.is_file() else ""
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "")
    if line:
        return int(line.split()[1]) * 1024
    import resource  # noqa: PLC0415  missing on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def ask(module: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Call ``answer(request)`` of ``module`` in a fresh process with the same module path; return its JSON object.

    Raises:
        ChildError: the process died or returned no JSON object.
    """
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path), module, json.dumps(request)]
    try:
        done = subprocess.run(  # noqa: S603  this very interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as exc:
        raise ChildError(f"the measuring process cannot be started: {exc.strerror or exc}") from exc
    if done.returncode:
        raise ChildError(_why(done.returncode, done.stderr))
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, TypeError) as exc:
        raise ChildError("the measuring process printed no result") from exc


def _why(code: int, stderr: str) -> str:
    if code == -signal.SIGKILL:
        return "the measuring process was killed (SIGKILL): out of memory?"
    if code < 0:
        return f"the measuring process was ended by signal {-code} ({signal.strsignal(-code)})"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"the measuring process failed with {lines[-1] if lines else f'exit code {code}'}"
