"""Interruptions (Ctrl-C, SIGTERM) that wait while a library calls back into Python.

Python handles a signal at its next instruction, which may be the first one of a callback. The exception would then
travel through the library's code. TensorRT drops it: the build goes on, and the interruption is lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], Any]


class DeferredInterruptions:
    """A block that no signal interrupts. Handlers that were due are called when it ends.

    Ignored signals stay ignored, and those that end the process at once still do. Python handles signals in its main
    thread only, so in other threads the block changes nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {}
        self._arrived: dict[int, FrameType | None] = {}

    @property
    def arrived(self) -> bool:
        """True if a signal waits: the work in the block should end soon."""
        return bool(self._arrived)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._arrived.__setitem__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number, frame in self._arrived.items():
            self._handlers[number](number, frame)
