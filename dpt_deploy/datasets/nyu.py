"""NYU Depth v2 (Silberman et al. 2012): the 654 test images of the labelled set.

    nyu_depth_v2_labeled.mat     MATLAB 7.3, i.e. HDF5: images (1449, 3, 640, 480) uint8, rawDepths (1449, 640, 480)
                                 float32 metres, 0 where the sensor saw nothing; columns before rows
    splits.mat                   MATLAB 5: testNdxs (654, 1), 1-based

``nyu`` is the zero-shot protocol: the whole frame of ``rawDepths``. ``nyu-metric`` follows the evaluation code of BTS:
the white border of the photographs is black, and only Eigen's crop is measured. (BTS stores images as JPEG and depth
as whole millimetres; neither is repeated here.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.base import Sample, depth_sample
from dpt_deploy.datasets.folders import Search
from dpt_deploy.datasets.hdf5 import opened
from dpt_deploy.datasets.matlab import read_matrix
from dpt_deploy.datasets.protocols import PROTOCOLS
from dpt_deploy.measure.metrics import evaluation_crop

_INSIDE = np.s_[7:474, 7:632]  # rows and columns of the photograph that BTS keeps
_FRAME = (640, 480)  # columns, rows
_HINT = "download nyu_depth_v2_labeled.mat and splits.mat (of the toolbox for the indoor split) into one folder"


def open_folder(root: Path, name: str) -> NyuReader:
    """Open the test split; raises :class:`BadFileError` when a file is missing or of another kind."""
    search = Search(root, "NYU Depth v2", _HINT)
    labelled, splits = search.one("nyu_depth_v2_labeled.mat"), search.one("splits.mat")
    search.finish()
    return NyuReader(name, labelled, _test_indices(splits, _count(labelled)))


class NyuReader:
    """The images ``indices`` (0-based) of the labelled set; a sample's name is its number in the file, 1-based."""

    def __init__(self, name: str, labelled: Path, indices: NDArray[np.intp]) -> None:
        self._name, self._labelled, self._indices = name, labelled, indices
        self.names = [f"{index + 1:04d}" for index in indices]

    def read(self, index: int) -> Sample:
        with opened(self._labelled) as file:
            number = int(self._indices[index])
            image = np.ascontiguousarray(file["images"][number].transpose(2, 1, 0))
            depth = np.ascontiguousarray(file["rawDepths"][number].T)
        sample = depth_sample(self.names[index], image, depth)
        return _as_bts(sample) if self._name == "nyu-metric" else sample


def _as_bts(sample: Sample) -> Sample:
    image, valid = np.zeros_like(sample.image), np.zeros_like(sample.valid)
    image[_INSIDE] = sample.image[_INSIDE]
    crop = evaluation_crop(PROTOCOLS["nyu-metric"].crop, *valid.shape)
    valid[crop] = sample.valid[crop]
    return Sample(sample.name, image, valid, depth=sample.depth)


def _count(labelled: Path) -> int:
    """Number of images in the labelled set."""
    with opened(labelled) as file:
        images, depths = (file[key].shape for key in ("images", "rawDepths"))
    if images[1:] != (3, *_FRAME) or depths != (images[0], *_FRAME):
        raise BadFileError(
            f"{labelled} holds images {images} and rawDepths {depths}; expected (N, 3, 640, 480) and (N, 640, 480)",
            hint="use the original file, not a converted one",
        )
    return int(images[0])


def _test_indices(splits: Path, count: int) -> NDArray[np.intp]:
    found = read_matrix(splits, "testNdxs").ravel()
    if not found.size or not np.isin(found, np.arange(1, count + 1)).all():
        raise BadFileError(
            f"'testNdxs' of {splits} are not numbers from 1 to {count}", hint="use the splits.mat of the same release"
        )
    return found.astype(np.intp) - 1
