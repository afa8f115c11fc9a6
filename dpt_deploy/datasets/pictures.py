"""Image files of a data set, with their pixels as stored. Needs the extra ``images``.

Ground truth is aligned with the stored pixels, so EXIF orientation is *not* applied here, unlike in
:mod:`dpt_deploy.imaging.files`. Maps keep their 16 bits or label numbers. Pillow detects damaged files.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core import limits
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.folders import read_bytes
from dpt_deploy.imaging.content import image_kind

with extra("images", purpose="reading the images of a data set"):
    from PIL import Image

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_DEEP = ("I;16", "I;16B", "I")  # 16-bit grey in different versions of Pillow


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a photograph (H, W, 3) in RGB; raises :class:`BadFileError` when it is missing or damaged."""
    return np.array(_loaded(path).convert("RGB"))


def read_map(path: Path) -> NDArray[np.uint16]:
    """Read the values (H, W) of a one-channel PNG: 8 or 16 bits of grey, or palette entries.

    Raises:
        BadFileError: missing, damaged, or more than one channel.
    """
    image = _loaded(path)
    if image.mode not in ("L", "P", *_DEEP):
        raise BadFileError(
            f"{path} has the mode {image.mode!r}; expected one channel of 8 or 16 bits, or a palette",
            hint="ground truth must not be converted: download it again",
        )
    values: NDArray[Any] = np.asarray(image)
    return values.astype(np.uint16)


def _loaded(path: Path) -> Image.Image:
    data = read_bytes(path)
    kind = image_kind(data)
    if data and kind is None:
        raise BadFileError(
            f"{path} is not an image in a known format", hint="data sets hold PNG or JPEG files: download it again"
        )
    try:
        with warnings.catch_warnings():  # about odd metadata and large images, which do not matter here
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=(kind,) if kind else None)
            limits.IMAGE.check(path, 3 * image.width * image.height)
            image.load()
    except _DAMAGE as exc:
        reason = str(exc).splitlines()[0] if str(exc) and data else f"{len(data)} bytes"
        raise BadFileError(
            f"{path} cannot be decoded: {reason}", hint="the file is damaged or incomplete: download it again"
        ) from exc
    return image
