"""Edit lists of MP4 and QuickTime files: the part of a video that is shown (ISO/IEC 14496-12, §8.6.6).

A trimmed video keeps all its frames and lists the part to show, while its number of frames is that of the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_LARGEST = 64 << 20  # bytes of the box that describes a file; hours of video take a few megabytes
_HEADER = 16  # bytes of a box's length and name at most


def shown_share(path: Path) -> float:
    """The share of its frames that an MP4 video shows: 1 without an edit list, or with one that is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        movie = _movie(path)
        scale, _ = _clock(_find(movie, b"mvhd"))
        tracks = (content for name, content in _boxes(movie) if name == b"trak")
        for track in tracks:
            if _find(track, b"mdia", b"hdlr")[8:12] == b"vide":
                return _share(track, scale)
    except (struct.error, LookupError, ZeroDivisionError):
        pass
    return 1.0


def _share(track: bytes, movie_scale: int) -> float:
    scale, duration = _clock(_find(track, b"mdia", b"mdhd"))
    begin = _first_offset(track)
    shown = 0.0
    for length, time in _edits(_find(track, b"edts", b"elst")):
        if time >= 0:  # else nothing is shown for a while
            rest = (duration - max(0, time - begin)) / scale
            shown += max(0.0, min(length / movie_scale, rest))
    return min(1.0, shown * scale / duration)


def _edits(box: bytes) -> Iterator[tuple[int, int]]:
    """Length in the movie's time scale and begin in the track's own, or -1 for an empty edit."""
    entry = ">QqI" if box[0] else ">IiI"
    (count,) = struct.unpack_from(">I", box, 4)
    for index in range(min(count, len(box))):
        length, time, _ = struct.unpack_from(entry, box, 8 + index * struct.calcsize(entry))
        yield length, time


def _first_offset(track: bytes) -> int:
    """When the first frame is shown, in the track's time scale: frames that refer to later ones delay it."""
    try:
        (offset,) = struct.unpack_from(">i", _find(track, b"mdia", b"minf", b"stbl", b"ctts"), 12)
    except (struct.error, LookupError):
        return 0
    return max(0, int(offset))


def _clock(box: bytes) -> tuple[int, int]:
    """Time scale (units a second) and duration in a movie or media header."""
    scale, duration = struct.unpack_from(">IQ", box, 20) if box[0] else struct.unpack_from(">II", box, 12)
    return scale, duration


def _find(data: bytes, *path: bytes) -> bytes:
    """The content of the first box on the path; raises :class:`LookupError` where there is none."""
    for wanted in path:
        found = next((content for name, content in _boxes(data) if name == wanted), None)  # no list: boxes are small
        if found is None:
            raise LookupError(wanted)
        data = found
    return data


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    begin = 0
    while begin + 8 <= len(data):
        name, content, size = _header(data[begin : begin + _HEADER], len(data) - begin)
        yield name, data[begin + content : begin + size]
        begin += size


def _header(data: bytes, rest: int) -> tuple[bytes, int, int]:
    """Name of a box, length of its header, and its own length, which is at most ``rest``."""
    size, name = struct.unpack_from(">I4s", data)
    content = 8
    if size == 1:
        (size,) = struct.unpack_from(">Q", data, 8)
        content = 16
    if size == 0:  # to the end
        size = rest
    if not content <= size <= rest:
        raise LookupError(name)
    return name, content, size


def _movie(path: Path) -> bytes:
    """The content of the ``moov`` box of a file."""
    begin, end = 0, path.stat().st_size
    with path.open("rb") as file:
        while begin + 8 <= end:
            file.seek(begin)
            name, content, size = _header(file.read(_HEADER), end - begin)
            if name == b"moov" and size <= _LARGEST:
                file.seek(begin + content)
                return file.read(size - content)
            begin += size
    raise LookupError(b"moov")
