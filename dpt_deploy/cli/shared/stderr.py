"""Standard error that cannot fail: messages that cannot be written are lost, and the exit code stays what it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _MessagesOrNothing(io.FileIO):
    """A file whose errors of writing (a full disk, a reader that left) are ignored."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def tolerant(stream: TextIO) -> TextIO:
    """A stream to the descriptor of ``stream``, with its encoding, whose writes never raise :class:`OSError`.

    A stream without a descriptor, which cannot fail, is returned as it is.
    """
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return stream
    raw = io.BufferedWriter(_MessagesOrNothing(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
