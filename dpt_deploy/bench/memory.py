"""Peak memory of one contender, in a process of its own: in a shared one the highest would hide the others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence


def peak_of(code: str, arguments: Sequence[str]) -> int | None:
    """Bytes by which running ``code`` raised the resident memory of a fresh interpreter above its imports.

    ``code`` must call ``ready()`` after its imports and before its work. None where the process failed or the system
    does not tell.
    """
    program = _PRELUDE + code + _EPILOGUE
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own code and arguments
    if done.returncode != 0:
        return None
    peaks = json.loads(done.stdout.splitlines()[-1])
    return int(peaks["after"] - peaks["before"])


_PRELUDE = """
import json, resource, sys
peaks = {}
def ready():
    peaks["before"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""
_EPILOGUE = """
peaks["after"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(peaks))
"""
