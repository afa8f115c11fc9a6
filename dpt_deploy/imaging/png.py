"""Uncompressed PNG files, as the C++ library writes them.

The original tools write 16-bit maps without compression. OpenCV filters every row of such a file all the same, which
takes several times as long as all that is done here.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_STORED = 65535  # bytes of one stored block of deflate
_MAX_CHUNK = 1 << 18  # bytes of a chunk; its length has 31 bits, and the largest map is longer
_GREY = 0


def grey16_png(values: NDArray[np.uint16]) -> bytes:
    """The file of a grey 16-bit image (H, W)."""
    height, width = values.shape
    lines: NDArray[Any] = np.empty((height, 1 + 2 * width), np.uint8)
    lines[:, 0] = 0  # no filter
    lines[:, 1:] = values.astype(">u2", order="C").view(np.uint8)
    data = memoryview(_stored(lines.reshape(-1).data))
    parts = [data[at : at + _MAX_CHUNK] for at in range(0, len(data), _MAX_CHUNK)]
    header = struct.pack(">IIBBBBB", width, height, 16, _GREY, 0, 0, 0)
    pieces: list[bytes | memoryview] = [_SIGNATURE, *_chunk(b"IHDR", header)]
    for part in parts:
        pieces += _chunk(b"IDAT", part)
    return b"".join([*pieces, *_chunk(b"IEND", b"")])


def _stored(content: memoryview) -> bytes:
    """The stream of zlib whose blocks are not compressed."""
    pieces: list[bytes | memoryview] = [b"\x78\x01"]
    for at in range(0, len(content), _MAX_STORED):
        block = content[at : at + _MAX_STORED]
        is_last = at + len(block) == len(content)
        pieces += (struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block)
    return b"".join([*pieces, struct.pack(">I", zlib.adler32(content))])


def _chunk(kind: bytes, body: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    return struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
