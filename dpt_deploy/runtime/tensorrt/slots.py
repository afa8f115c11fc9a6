"""Memory and events of one run from host to host, while other runs are on their way.

Experimental: run on one GPU so far (``docs/explanation/engines.md``).
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

    def reserve(self, output_bytes: Sequence[int]) -> None:
        """Make room for outputs of this size; nothing may be queued that uses the slot.

        The engine's own shapes do not say how large an output becomes: TensorRT-RTX 1.6 reports the one of the first
        profile where that profile is a single shape.
        """
        for memories, pinned in ((self.host_outputs, True), (self.outputs, False)):
            for index, size_bytes in enumerate(output_bytes):
                if memories[index].size_bytes < size_bytes:
                    memories[index].close()
                    memories[index] = DeviceMemory(size_bytes, pinned=pinned)
                    self._held.callback(memories[index].close)

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
