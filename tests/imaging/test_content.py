"""Kinds of files by content, and the check of a PNG stream."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.imaging.content import check_png, image_kind, video_kind

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("start", "image", "video"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG", None),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP", None),
        (b"RIFF\0\0\0\0AVI LIST", None, "AVI"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF", None),
        (b"\0\0\0\x1cftypisom\0\0\2\0", None, "MP4 or QuickTime"),
        ((b"G" + bytes(187)) * 2, None, "MPEG-TS"),
        (b"#EXTM3U\n", None, None),
        (b"ffconcat version 1.0\n", None, None),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n", None, None),
        (b"%!PS-Adobe-3.0 EPSF-3.0", None, None),
        (b"<?xml version='1.0'?><MPD/>", None, None),
        (b"", None, None),
    ],
)
def test_a_kind_is_found_by_content(start, image, video):
    assert (image_kind(start), video_kind(start)) == (image, video)


def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(pixels, *, interlace=0, end=True):
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, interlace)
    body = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(pixels)))
    return body + (_chunk(b"IEND", b"") if end else b"")


@pytest.mark.parametrize(("interlace", "pixels"), [(0, 72), (1, 79)])
def test_a_png_has_as_many_bytes_as_its_header_says(interlace, pixels):
    check_png(Path("a.png"), _png(pixels, interlace=interlace))
    with pytest.raises(BadFileError, match="its pixels are cut short"):
        check_png(Path("a.png"), _png(pixels - 1, interlace=interlace))


def test_a_png_that_is_cut_short_or_changed_says_so():
    whole = _png(72)
    for length in range(33, len(whole)):
        with pytest.raises(BadFileError, match="cut short"):
            check_png(Path("a.png"), whole[:length])
    with pytest.raises(BadFileError, match="checksum"):
        check_png(Path("a.png"), whole.replace(b"IDAT", b"IDAt"))
