"""Memory and events of one run from host to host, while other runs are on their way.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from dpt_deploy.core.errors import DptError
from dpt_deploy.runtime.cuda.driver import DeviceMemory, Event


class BufferSlot:
    """Pinned and device memory for one run at the largest shape, held until its result is collected."""

    def __init__(self, input_bytes: int, output_bytes: int) -> None:
        with ExitStack() as undo:
            self.host_input, self.host_output, self.input, self.output = (
                self._made(undo, size_bytes, pinned=pinned)
                for size_bytes, pinned in (
                    (input_bytes, True),
                    (output_bytes, True),
                    (input_bytes, False),
                    (output_bytes, False),
                )
            )
            self.uploaded, self.computed, self.downloaded = (self._mark(undo) for _ in range(3))
            self._held = undo.pop_all()

    @staticmethod
    def _made(undo: ExitStack, size_bytes: int, *, pinned: bool) -> DeviceMemory:
        memory = DeviceMemory(size_bytes, pinned=pinned)
        undo.callback(memory.close)
        return memory

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
    """A submitted run, which ``collect`` exchanges for the output, once.

    ``error`` is a failure while it was queued, raised when it is collected. ``thread`` is the thread that submitted it.
    """

    thread: int
    slot: BufferSlot | None = None
    output_shape: tuple[int, ...] = ()
    error: DptError | None = None
    taken: bool = False
