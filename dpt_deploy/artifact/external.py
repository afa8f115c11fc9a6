"""Files that an ONNX graph names as external data, found without parsing the graph and without the package ``onnx``.

Every file that a library will read has to be one whose hash was checked. The walk knows only the messages that can hold
a tensor; whatever it does not know it steps over, and it stops at damage, which the libraries refuse.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Fields of the messages of onnx.proto that lead to a tensor, by number.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LENGTH, _FIXED = 2, {1: 8, 5: 4}  # wire types
_LONGEST_VARINT = 10
_KEY, _VALUE = 1, 2


def external_files(path: Path) -> list[str]:
    """Return the locations of external data that the ONNX file ``path`` names, in order, each once.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return list(dict.fromkeys(_locations(data)))


def _locations(data: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(data))]
    with suppress(_DamageError):
        while waiting:
            kind, start, stop = waiting.pop()
            for number, begin, end in _fields(data, start, stop):
                inner = _FIELDS[kind].get(number)
                if inner == "entry":
                    yield from _location(data, begin, end)
                elif inner:
                    waiting.append((inner, begin, end))


def _location(data: mmap.mmap, start: int, stop: int) -> Iterator[str]:
    parts = [(number, data[begin:end]) for number, begin, end in _fields(data, start, stop)]
    if (_KEY, b"location") in parts:
        yield from (value.decode(errors="replace") for number, value in parts if number == _VALUE)


class _DamageError(Exception):
    """The bytes are no protocol buffer."""


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, stop) of the fields with a length; the others are stepped over."""
    while at < stop:
        key, at = _varint(data, at, stop)
        number, wire = key >> 3, key & 7
        if wire == _LENGTH:
            size, at = _varint(data, at, stop)
            if size > stop - at:
                raise _DamageError
            yield number, at, at + size
            at += size
        elif wire == 0:
            _, at = _varint(data, at, stop)
        elif wire in _FIXED:
            at += _FIXED[wire]
        elif wire not in (3, 4):  # the marks of a group have no content; its fields are read as fields of the message
            raise _DamageError


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT):
        if at >= stop:
            raise _DamageError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at
    raise _DamageError
