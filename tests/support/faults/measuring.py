"""Fates of a measuring process: ``answer`` is called in it by :func:`dpt_deploy.measure.memory.ask`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

MEGABYTES_BEFORE = 200


def answer(request: Mapping[str, Any]) -> Any:
    fate = request["fate"]
    if fate == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "crashed":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "failed":
        raise MemoryError("no room for the weights")
    if fate == "left":
        sys.exit(3)
    if fate == "no object":
        return 7
    return gauged(request["megabytes"]) if fate == "gauged" else dict(request)


def gauged(megabytes: int) -> dict[str, Any]:
    """Reading of the gauge for so many megabytes, after more were allocated and freed before it was set."""
    from dpt_deploy.measure.memory import Gauge  # noqa: PLC0415  the process that crashes need not import it

    before = bytearray(os.urandom(1)) * (MEGABYTES_BEFORE << 20)
    del before
    gauge = Gauge()
    taken = bytearray(b"x") * (megabytes << 20)
    del taken
    return {"bytes": gauge.read(), "exact": gauge.exact}
