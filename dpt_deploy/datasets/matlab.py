"""Read one numeric matrix of a MATLAB 5 file (The MathWorks, "MAT-File Format", level 5).

The only such file here is NYU's ``splits.mat``, which holds the numbers of the 654 test images. The numbers belong to
the data set and are not shipped with the package, so the file of the user's copy is read. SciPy could read it, too, but
crashes the process on a damaged file (1.17, a bus error); this reader raises an error instead.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.folders import read_bytes

_HEADER = 128  # bytes: text, version, and the byte order in the last two
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # classes of arrays: double, single, and integers; not characters, cells, structures
_LARGEST = 1 << 26  # bytes of one variable: 100 times what any split holds

Element = tuple[int, bytes]  # type and content


def read_matrix(path: Path, name: str) -> NDArray[Any]:
    """Read the real numeric array ``name`` of a MATLAB 5 file, in its stored shape.

    Raises:
        BadFileError: the file is of another kind, is damaged, or has no such array.
    """
    data = read_bytes(path)
    order = _ORDERS.get(data[_HEADER - 2 : _HEADER])
    try:
        if order is None:
            raise ValueError("the header is that of another format")
        return _find(data[_HEADER:], order, name)
    except (ValueError, KeyError, struct.error, zlib.error) as exc:
        raise BadFileError(
            f"cannot read {name!r} of {path} as a MATLAB 5 file: {exc}",
            hint="the file is incomplete or of another kind: download it again",
        ) from exc


def _find(data: bytes, order: str, name: str) -> NDArray[Any]:
    for matrix in _matrices(data, order):
        (_, flags), (_, sides), (_, title), *values = _elements(matrix, order)
        if title.rstrip(b"\0") == name.encode():
            if struct.unpack_from(f"{order}I", flags)[0] & 0xFF not in _NUMERIC or len(values) != 1:
                raise ValueError("it is not an array of real numbers")
            return _array(np.frombuffer(sides, f"{order}i4").tolist(), *values[0], order)
    raise ValueError("there is no such array")


def _matrices(data: bytes, order: str) -> Iterator[bytes]:
    for kind, content in _elements(data, order):
        if kind == _MATRIX:
            yield content
        elif kind == _COMPRESSED:
            inflated = zlib.decompressobj().decompress(content, _LARGEST)
            yield from (inner for inner_kind, inner in _elements(inflated, order) if inner_kind == _MATRIX)


def _array(shape: list[int], kind: int, content: bytes, order: str) -> NDArray[Any]:
    array = np.frombuffer(content, f"{order}{_NUMBERS[kind]}")
    if math.prod(shape) != array.size or min(shape, default=0) < 0:
        raise ValueError(f"{array.size} values do not fill the shape {shape}")
    return array.reshape(shape, order="F")  # column by column


def _elements(data: bytes, order: str) -> Iterator[Element]:
    """Type and content of each element: a tag of 8 bytes, then the content, padded to a multiple of 8 bytes."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start = position + 8
        if kind >> 16:  # up to 4 bytes are stored in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        if start + size > len(data):
            raise ValueError("it is shorter than its header states")
        yield kind, data[start : start + size]
        position = start + size if kind == _COMPRESSED else -(-(start + size) // 8) * 8
