"""Kinds of image and video files, recognised by their content, and checks of a stream before it is decoded.

Decoders are given only files of these kinds. None of them names another file or starts another program, unlike
PostScript, playlists and patterns of numbered images.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dpt_deploy.core.errors import BadFileError

HEAD = 400  # bytes from the start of a file that suffice to recognise it
_MPEG_TS = 0x47
_SHORT, _WIDTH, _HEIGHT = 3, 256, 257  # of TIFF: the type of 16 bits, and tags
_AVIF = (b"avif", b"avis")
_IMAGE_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    **{b"P%d" % kind: "PPM" for kind in range(1, 7)},
}
_VIDEO_STARTS = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "Windows Media",
    b"\x00\x00\x01\xba": "MPEG",
    b"\x00\x00\x01\xb3": "MPEG",
    b"OggS": "Ogg",
    b"FLV\x01": "Flash",
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
MP4, AVI = "MP4 or QuickTime", "AVI"


def image_kind(data: bytes) -> str | None:
    """Pillow's name of the format of ``data``; None for a file that is no image of a known kind."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in _AVIF):
        return "AVIF"
    return next((kind for start, kind in _IMAGE_STARTS.items() if data.startswith(start)), None)


def video_kind(data: bytes) -> str | None:
    """The container of a video by its first :data:`HEAD` bytes; None for a file that is no video of a known kind."""
    if data[4:8] in _BOXES and image_kind(data) is None:
        return MP4
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return AVI
    for start, packet in ((0, 188), (4, 192)):
        if len(data) > start + packet and data[start] == data[start + packet] == _MPEG_TS:
            return "MPEG-TS"
    return next((kind for start, kind in _VIDEO_STARTS.items() if data.startswith(start)), None)


class PngSize(NamedTuple):
    """Width and height in pixels, bits a pixel, and whether the image is interlaced."""

    width: int
    height: int
    bits: int
    interlaced: bool


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_size(path: Path, data: bytes) -> PngSize:
    """The size in the header of a PNG.

    Raises:
        BadFileError: the header is cut short or impossible.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _damaged(path, "its header is missing or cut short")
    width, height, depth, colour, *_, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if not (width and height) or colour not in _SAMPLES:
        raise _damaged(path, "its header is impossible")
    return PngSize(width, height, depth * _SAMPLES[colour], bool(interlace))


def tiff_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the first directory of a TIFF; None where they are missing."""
    order = "<" if data.startswith(b"II") else ">"
    found: dict[int, int] = {}
    try:
        (begin,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, begin)
        for entry in range(begin + 2, begin + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            (found[tag],) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), data, entry + 8)
    except struct.error:
        return None
    return (found[_WIDTH], found[_HEIGHT]) if {_WIDTH, _HEIGHT} <= set(found) else None


def check_png(path: Path, data: bytes) -> None:
    """Read the stream of a PNG to its end: every checksum, and as many bytes of pixels as the header says.

    The pixels are discarded block by block, so this takes no memory. Text is not unpacked.

    Raises:
        BadFileError: the file is damaged or cut short.
    """
    stream, unpacked = zlib.decompressobj(), 0
    try:
        for kind, body in _chunks(path, data):
            if kind == b"IDAT":
                unpacked += _unpacked(stream, body)
    except zlib.error as exc:
        raise _damaged(path, str(exc)) from exc
    if unpacked < _needed(png_size(path, data)):
        raise _damaged(path, "its pixels are cut short")


def _chunks(path: Path, data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _damaged(path, f"the checksum of its part {kind.decode('latin-1')!r} is wrong")
        yield kind, view[at + 8 : end]
        if kind == b"IEND":
            return
        at = end + 4
    raise _damaged(path, "it is cut short (its end is missing)")


def _unpacked(stream: zlib._Decompress, body: memoryview) -> int:
    block = 1 << 20
    count, rest = 0, bytes(body)
    while rest and not stream.eof:
        out = stream.decompress(rest, block)
        count, rest = count + len(out), stream.unconsumed_tail
        if not out and not rest:
            break
    return count


def _needed(size: PngSize) -> int:
    passes = _PASSES if size.interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        width, height = -(-(size.width - left) // across), -(-(size.height - top) // down)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * size.bits // 8))
    return total


def _damaged(path: Path, reason: str) -> BadFileError:
    return BadFileError(
        f"{path} cannot be decoded: {reason}",
        hint="the file is damaged or incomplete: copy or download it again, or save it as a new PNG",
    )
