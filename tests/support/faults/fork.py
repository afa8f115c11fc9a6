"""A call in a fork of this process, which can be killed: a new interpreter would import PyTorch for seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Self

_SECONDS = 120


class Fork:
    """A running call; what it writes comes through pipes."""

    def __init__(self, call: Callable[[], None]) -> None:
        pipes = [os.pipe() for _ in range(2)]
        ends = [end for _, end in pipes]
        self._process = multiprocessing.get_context("fork").Process(target=_run, args=(call, ends))
        self._process.start()
        for end in ends:
            os.close(end)
        self.stdout, self._stderr = (os.fdopen(end) for end, _ in pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        for stream in (self.stdout, self._stderr):
            stream.close()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def finished(self) -> tuple[int, str, str]:
        """Exit code (the negative number of a signal that killed it), standard output and standard error."""
        self._process.join(_SECONDS)
        return self._process.exitcode, self.stdout.read(), self._stderr.read()


def _run(call: Callable[[], None], ends: list[int]) -> None:
    for number, end in enumerate(ends, start=1):
        os.dup2(end, number)
    sys.stdout, sys.stderr = _stream(1), _stream(2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    call()


def _stream(number: int) -> IO[str]:
    return os.fdopen(number, "w", buffering=1)
