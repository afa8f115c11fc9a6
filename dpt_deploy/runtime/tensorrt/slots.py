"""Memory and events of one run from host to host, while other runs are on their way.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dpt_deploy.core.errors import DptError
from dpt_deploy.runtime.cuda.driver import DeviceMemory, Event


class BufferSlot:
    """Pinned and device memory for one run at the largest shape, held until its result is collected."""

    def __init__(self, input_bytes: int, output_bytes: Sequence[int]) -> None:
        with ExitStack() as undo:
            self.host_input, *self.host_outputs = self._made(undo, input_bytes, output_bytes, pinned=True)
            self.input, *self.outputs = self._made(undo, input_bytes, output_bytes, pinned=False)
            self.uploaded, self.computed, self.downloaded = (self._mark(undo) for _ in range(3))
            self._held = undo.pop_all()

    @staticmethod
    def _made(undo: ExitStack, input_bytes: int, output_bytes: Sequence[int], *, pinned: bool) -> list[DeviceMemory]:
        made = []
        for size_bytes in (input_bytes, *output_bytes):
            made.append(DeviceMemory(size_bytes, pinned=pinned))
            undo.callback(made[-1].close)
        return made

    @staticmethod
    def _mark(undo: ExitStack) -> Event:
        event = Event()
        undo.callback(event.close)
        return event

    def close(self) -> None:
        """Free everything, even if some of it fails."""
        self._held.close()


@dataclass(eq=False)
class Ticket:
    """A submitted run, which ``collect`` exchanges for the outputs, once.

    ``error`` is a failure while it was queued, raised when it is collected. ``thread`` is the thread that submitted it.
    """

    thread: int
    slot: BufferSlot | None = None
    output_shapes: tuple[tuple[int, ...], ...] = ()
    error: DptError | None = None
    taken: bool = False
