"""ETH3D's high-resolution multi-view training set (Schöps et al. 2017): 454 photographs of 13 scenes.

    <scene>/images/dslr_images/DSC_0001.JPG                  as distorted as the camera made them, 4032 x 6048
    <scene>/ground_truth_depth/dslr_images/DSC_0001.JPG      raw float32 metres by rows, inf where none

The archives are ``multi_view_training_dslr_jpg`` and, one per scene, ``<scene>_dslr_depth``. The undistorted images
have no depth maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.folders import Search, read_bytes
from dpt_deploy.datasets.paired import PairedFiles

_SUFFIXES = (".jpg", ".png")


def open_folder(root: Path, _name: str) -> PairedFiles:
    """Open the photographs of every scene; raises :class:`BadFileError` when an image or a depth map is missing."""
    search = Search(root, "ETH3D", "unpack multi_view_training_dslr_jpg and each <scene>_dslr_depth into one folder")
    images = search.some("*/images/dslr_images/*", suffixes=_SUFFIXES)
    depths = search.some("*/ground_truth_depth/dslr_images/*", suffixes=_SUFFIXES)
    search.finish()
    return PairedFiles(search.pairs(images, depths, lambda path: f"{path.parents[2].name}/{path.stem}"), _read_raw)


def _read_raw(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    data = read_bytes(path)
    if len(data) != 4 * size[0] * size[1]:
        raise BadFileError(
            f"{path} holds {len(data)} bytes; an image of {size[0]}x{size[1]} needs {4 * size[0] * size[1]}",
            hint="the file is incomplete, or belongs to another image: unpack both archives again",
        )
    return np.frombuffer(data, "<f4").reshape(size)
