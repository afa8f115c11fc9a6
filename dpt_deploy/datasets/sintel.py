"""MPI Sintel (Butler et al. 2012) with the depth of its release of 2015: 1064 rendered frames of 23 sequences.

    training/final/<sequence>/frame_0001.png     or clean/: the pass without blur and fog, data set ``sintel-clean``
    training/depth/<sequence>/frame_0001.dpt     float32 tag 202021.25, int32 width and height, float32 metres by rows

All numbers are little-endian. The paper does not state which pass it used.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.folders import Search, read_bytes
from dpt_deploy.datasets.paired import PairedFiles

_TAG = struct.pack("<f", 202021.25)
_HEADER = struct.Struct("<4sii")


def open_folder(root: Path, name: str) -> PairedFiles:
    """Open the frames of the pass ``name``; raises :class:`BadFileError` when an image or a depth map is missing."""
    search = Search(root, "MPI Sintel", "unpack the training images and the depth archive into one folder")
    images = search.some(f"training/{'clean' if name == 'sintel-clean' else 'final'}/*/*", suffixes=(".png",))
    depths = search.some("training/depth/*/*", suffixes=(".dpt",))
    search.finish()
    return PairedFiles(search.pairs(images, depths, lambda path: f"{path.parent.name}/{path.stem}"), read_dpt)


def read_dpt(path: Path, _size: tuple[int, int]) -> NDArray[Any]:
    """Read the depth in metres (H, W) of a ``.dpt`` file.

    Raises:
        BadFileError: the format is another one, or the length does not match the header.
    """
    data = read_bytes(path)
    tag, width, height = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0)
    if tag != _TAG or width < 1 or height < 1:
        raise BadFileError(
            f"{path} does not begin with the header of a Sintel depth file (tag 202021.25, width, height)",
            hint="the file is damaged or of another kind: unpack the depth archive again",
        )
    if len(data) != _HEADER.size + 4 * width * height:
        raise BadFileError(
            f"{path} holds {len(data) - _HEADER.size} bytes of values; {width}x{height} needs {4 * width * height}",
            hint="the file is incomplete: unpack the depth archive again",
        )
    return np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(height, width)
