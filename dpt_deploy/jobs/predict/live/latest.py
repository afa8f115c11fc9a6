"""The latest frame of a camera, for a reader that is slower than the camera. NumPy only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

_LOOK = 0.1  # seconds after which a reader that waits looks whether it should stop
_LEAVE = 2.0  # seconds to wait for a camera that sends nothing more


class Numbered(NamedTuple):
    """A frame (H, W, 3), and its number in the stream, counted from 0."""

    number: int
    pixels: Any


class LatestFrame:
    """Takes frames in a thread of its own inside a ``with`` block, and holds one: a newer frame replaces the older.

    ``dropped`` counts frames that were replaced before anyone took them. ``interval`` is the time in seconds between
    frames of a file, which plays a camera; 0 for a camera, which sets the pace itself.
    """

    def __init__(self, frames: Iterable[Any], *, interval: float = 0.0) -> None:
        self._frames, self._interval = frames, interval
        self._changed = threading.Condition()
        self._held: Numbered | None = None
        self._ended = False
        self._error: Exception | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self.dropped = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.set()
        self._thread.join(_LEAVE)

    def take(self, stopped: Callable[[], bool] = lambda: False) -> Numbered | None:
        """Wait for a frame newer than the last; None after the last of all, or as soon as ``stopped()``.

        Raises:
            Exception: the error of the camera, after the frames before it.
        """
        with self._changed:
            while not stopped():
                if self._held is not None:
                    found, self._held = self._held, None
                    return found
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return None
                self._changed.wait(_LOOK)
        return None

    def _read(self) -> None:
        begun, error = time.monotonic(), None
        try:
            for number, pixels in enumerate(self._frames):
                self._put(Numbered(number, pixels))
                due = begun + (number + 1) * self._interval
                if self._leave.wait(max(0.0, due - time.monotonic()) if self._interval else 0):
                    break
        except Exception as exc:  # noqa: BLE001  raised again where frames are taken
            error = exc
        finally:
            if isinstance(self._frames, Generator):
                self._frames.close()  # releases the camera
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _put(self, frame: Numbered) -> None:
        with self._changed:
            self.dropped += self._held is not None
            self._held = frame
            self._changed.notify_all()
