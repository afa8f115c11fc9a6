"""Image, map and video files, read and written as the original DPT tools do. Needs the extra ``images``.

Arrays are RGB, height first. Every file is written whole or not at all.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core import limits
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.optional import extra
from dpt_deploy.imaging.content import check_png, image_kind, png_size, tiff_size
from dpt_deploy.imaging.encode import depth_to_uint16
from dpt_deploy.imaging.palette import palette
from dpt_deploy.imaging.png import grey16_png, rgb_png

with extra("images", purpose="reading and writing images"):
    import cv2
    from PIL import Image

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".ts", ".mts", ".m2ts"}
    | {".mpg", ".mpeg", ".wmv", ".ogv", ".flv"}
)
WRITABLE_VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv"})
_MAX_LABEL = 255  # of a palette PNG
_ROWS = 256  # of an image, converted at a time
_OVERLAY = 0.5  # share of the label colours in an overlay, as in the original
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: Path | str) -> Pixels:
    """The image (H, W, 3) in RGB, as ``cv2.imread(path, IMREAD_COLOR)`` decodes it.

    EXIF orientation is applied, grey is replicated, alpha is dropped, 16 bits become 8.

    Raises:
        BadFileError: missing, empty, truncated or damaged, not an image, or too many pixels to be one.
    """
    path = Path(path)
    return decode_image(path, file_bytes(path))


def decode_image(path: Path, data: bytes) -> Pixels:
    """The image (H, W, 3) in RGB that the bytes of a file hold; ``path`` is for messages.

    Raises:
        BadFileError: for the reasons of :func:`read_image`.
    """
    if not data:
        raise BadFileError(f"{path} is empty (0 bytes); expected an image", hint="copy or download the file again")
    kind = image_kind(data)
    if kind is None:
        raise _not_an_image(path)
    with _quiet:
        _check_decodes(path, data, kind)
        try:
            pixels: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as exc:
            raise _undecoded(path, kind) from exc
    if pixels is None:
        raise _undecoded(path, kind)
    for first in range(0, len(pixels), _ROWS):  # in blocks: a second copy of a large image is large
        pixels[first : first + _ROWS] = swapped(pixels[first : first + _ROWS])
    return pixels


class _Quiet:
    """Keeps OpenCV from writing to standard error and Pillow from warnings while any thread decodes.

    Failures are reported as errors, and odd metadata is not our business. Both settings are the process's own: the
    first thread changes them, the last one restores them.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._restore = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
                self._restore.callback(cv2.utils.logging.setLogLevel, level)
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore.close()


_quiet = _Quiet()


def file_bytes(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        BadFileError: it is missing, cannot be read, or is not a regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadFileError(f"{path} is not a regular file", hint="name one image file")
        return path.read_bytes()
    except OSError as exc:
        raise BadFileError(
            f"cannot read {path}: {exc.strerror or exc}", hint="check the path and its permissions"
        ) from exc


def _check_decodes(path: Path, data: bytes, kind: str) -> None:
    """Refuse too large an image, and what OpenCV may accept in silence: a damaged stream is grey or torn pixels in it.

    JPEG is decoded at an eighth of its size here, which reads the whole stream at about half the cost of the image. A
    PNG is not decoded by Pillow, which refuses long texts. TIFF files that Pillow does not know are left to OpenCV.
    """
    if kind == "PNG":
        size = png_size(path, data)
        limits.IMAGE.check(path, 3 * size.width * size.height)
        check_png(path, data)
        return
    Image.init()
    try:
        with Image.OPEN[kind][0](io.BytesIO(data), "") as image:  # of this format only, and with our own limit
            limits.IMAGE.check(path, 3 * image.width * image.height)
            image.draft(None, (1, 1))
            image.load()
    except _PILLOW_ERRORS as exc:
        if kind == "TIFF" and isinstance(exc, SyntaxError) and (sides := tiff_size(data)):
            limits.IMAGE.check(path, 3 * sides[0] * sides[1])
            return
        raise BadFileError(
            f"{path} cannot be decoded: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}",
            hint="the file is damaged or incomplete: copy or download it again, or save it as a new PNG",
        ) from exc


def _undecoded(path: Path, kind: str) -> BadFileError:
    if kind == "TIFF":
        return BadFileError(
            f"{path} is a TIFF whose samples OpenCV cannot convert; expected integers of 8 or 16 bits",
            hint="floating-point images have no fixed brightness: scale it to 8 bits and save it as PNG",
        )
    return BadFileError(f"{path} cannot be decoded as {kind}", hint="copy or download it again, or save it as a PNG")


def _not_an_image(path: Path) -> BadFileError:
    return BadFileError(
        f"{path} is not an image in a known format", hint=f"expected one of {', '.join(sorted(IMAGE_SUFFIXES))}"
    )


def swapped(pixels: Pixels) -> Pixels:
    """RGB from BGR, or BGR from RGB."""
    swapped: Pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return swapped


def _write_pillow(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    atomic_write_bytes(path, buffer.getvalue())


def write_png16(path: Path, values: NDArray[np.uint16]) -> None:
    """A grey 16-bit PNG of a map (H, W), uncompressed like the original's."""
    atomic_write_bytes(path, grey16_png(values))


def colorize(values: NDArray[np.float32], palette: str = "inferno", ends: tuple[float, float] | None = None) -> Pixels:
    """A map (H, W) as RGB (H, W, 3), stretched over its range and coloured; ``palette`` is a colour map of OpenCV.

    ``ends`` are the values at both ends of the colours, instead of the map's own.
    """
    grey = (depth_to_uint16(values, ends) >> 8).astype(np.uint8)
    coloured: Pixels = cv2.applyColorMap(grey, _colours_of(palette))
    return coloured


@cache
def _colours_of(palette: str) -> Pixels:
    """The RGB colours (256, 1, 3) of a colour map of OpenCV, which itself holds them as BGR."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return swapped(cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{palette.upper()}")))


def write_color(path: Path, values: NDArray[np.float32], palette: str = "inferno") -> None:
    """An RGB PNG of :func:`colorize`."""
    write_picture(path, colorize(values, palette))


def write_picture(path: Path, pixels: Pixels) -> None:
    """An RGB PNG of ``pixels`` (H, W, 3)."""
    atomic_write_bytes(path, rgb_png(pixels))


def write_pfm(path: Path | str, values: NDArray[np.float32]) -> None:
    """A one-channel portable float map (H, W): little-endian float32, bottom row first."""
    height, width = values.shape
    header = f"Pf\n{width} {height}\n-1.000000\n".encode("ascii")
    atomic_write_bytes(Path(path), b"".join((header, np.ascontiguousarray(np.flipud(values), "<f4").data)))


_PFM_HEADER = re.compile(rb"Pf\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]+)\s")


def read_pfm(path: Path | str) -> NDArray[np.float32]:
    """The map (H, W) of a one-channel PFM of either byte order; the size of the scale factor is ignored.

    Raises:
        BadFileError: missing, not a one-channel PFM, or not as long as its header says.
    """
    path = Path(path)
    data = file_bytes(path)
    match = _PFM_HEADER.match(data)
    if not match:
        raise BadFileError(
            f"{path} does not begin with the header of a one-channel PFM", hint="expected 'Pf', W H, scale"
        )
    width, height, body = int(match[1]), int(match[2]), data[match.end() :]
    if len(body) != 4 * width * height:
        raise BadFileError(
            f"{path} holds {len(body)} bytes of values; {width}x{height} needs {4 * width * height}",
            hint="the file is damaged or incomplete: write or copy it again",
        )
    order = "<f4" if match[3].startswith(b"-") else ">f4"
    return np.flipud(np.frombuffer(body, order).reshape(height, width)).astype(np.float32)


def _palette_image(labels: NDArray[Any], num_classes: int) -> Image.Image:
    if num_classes > _MAX_LABEL or int(labels.max()) > num_classes or int(labels.min()) < 0:
        raise UsageError(
            f"labels {int(labels.min())}..{int(labels.max())} of {num_classes} classes do not fit a palette image",
            hint=f"expected 0 (background) to the number of classes, at most {_MAX_LABEL}",
        )
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(palette(num_classes).tobytes())
    return image


def write_labels(path: Path, labels: NDArray[Any], num_classes: int) -> None:
    """A palette PNG whose pixel values are the labels (H, W), 0 the background.

    Raises:
        UsageError: a label is outside 0..``num_classes``, or there are more than 255 classes.
    """
    _write_pillow(path, _palette_image(labels, num_classes))


def write_overlay(path: Path, image: Pixels, labels: NDArray[Any], num_classes: int) -> None:
    """An RGBA PNG of ``image`` (H, W, 3) blended with its label colours, the original's ``write_segm_img``."""
    _write_pillow(path, _overlay(image, labels, num_classes))


def overlay(image: Pixels, labels: NDArray[Any], num_classes: int) -> Pixels:
    """The picture of :func:`write_overlay` as RGB (H, W, 3)."""
    return np.asarray(_overlay(image, labels, num_classes).convert("RGB"))


def _overlay(image: Pixels, labels: NDArray[Any], num_classes: int) -> Image.Image:
    colours = _palette_image(labels, num_classes).convert("RGBA")
    return Image.blend(Image.fromarray(image).convert("RGBA"), colours, _OVERLAY)
