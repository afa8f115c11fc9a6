"""PNG files, several times as fast as OpenCV writes them where the extra ``images`` is installed.

The original tools write 16-bit maps without compression, and so does the C++ library. OpenCV filters every row of such
a file all the same. Colours are compressed; what takes the time there is deflate.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from isal import isal_zlib as deflate
except ImportError:  # pixels are the same without it
    import zlib as deflate  # type: ignore[no-redef]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_STORED = 65535  # bytes of one stored block of deflate
_MAX_CHUNK = 1 << 18  # bytes of a chunk; its length has 31 bits, and the largest map is longer
_GREY, _RGB = 0, 2
_NO_FILTER, _LEFT = 0, 1  # a byte, or its difference to that of the pixel on its left
_FAST = 1  # level of compression


def grey16_png(values: NDArray[np.uint16]) -> bytes:
    """The file of a grey 16-bit image (H, W)."""
    height, width = values.shape
    lines: NDArray[Any] = np.empty((height, 1 + 2 * width), np.uint8)
    lines[:, 0] = _NO_FILTER
    lines[:, 1:] = values.astype(">u2", order="C").view(np.uint8)
    return _png(_header(values, 16, _GREY), _stored(lines.reshape(-1).data))


def rgb_png(pixels: NDArray[np.uint8]) -> bytes:
    """The file of an RGB image (H, W, 3)."""
    height, width, channels = pixels.shape
    lines: NDArray[Any] = np.empty((height, 1 + channels * width), np.uint8)
    rows = pixels.reshape(height, -1)
    lines[:, 0] = _LEFT
    lines[:, 1 : 1 + channels] = rows[:, :channels]
    np.subtract(rows[:, channels:], rows[:, :-channels], out=lines[:, 1 + channels :])  # modulo 256
    return _png(_header(pixels, 8, _RGB), deflate.compress(lines, _FAST))


def _header(image: NDArray[Any], bits: int, colours: int) -> bytes:
    return struct.pack(">IIBBBBB", image.shape[1], image.shape[0], bits, colours, 0, 0, 0)


def _png(header: bytes, stream: bytes) -> bytes:
    """A file of a header and a stream of zlib, in chunks."""
    data = memoryview(stream)
    parts = [data[at : at + _MAX_CHUNK] for at in range(0, len(data), _MAX_CHUNK)]
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
    return b"".join([*pieces, struct.pack(">I", deflate.adler32(content))])


def _chunk(kind: bytes, body: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    return struct.pack(">I", len(body)), kind, body, struct.pack(">I", deflate.crc32(body, deflate.crc32(kind)))
