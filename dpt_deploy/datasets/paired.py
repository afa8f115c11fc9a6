"""The most common reader: one image file and one depth file per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.datasets.base import Sample, depth_sample
from dpt_deploy.datasets.pictures import read_map, read_rgb

Entry = tuple[str, Path, Path]  # name, image, depth
ReadDepth = Callable[[Path, tuple[int, int]], NDArray[Any]]  # of a path and the image's height and width: metres


class PairedFiles:
    """``entries`` of images and depth maps, the latter read by ``read_depth``."""

    def __init__(self, entries: Sequence[Entry], read_depth: ReadDepth) -> None:
        self._entries, self._read_depth = entries, read_depth
        self.names = [name for name, _, _ in entries]

    def read(self, index: int) -> Sample:
        name, image_path, depth_path = self._entries[index]
        image = read_rgb(image_path)
        height, width = image.shape[:2]
        return depth_sample(name, image, self._read_depth(depth_path, (height, width)))


def png_depth(scale: float) -> ReadDepth:
    """Make a reader of 16-bit PNGs whose values are metres times ``scale``, 0 where nothing was measured."""

    def read(path: Path, _size: tuple[int, int]) -> NDArray[np.float32]:
        return read_map(path).astype(np.float32) / np.float32(scale)

    return read
