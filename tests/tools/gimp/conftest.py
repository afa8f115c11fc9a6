"""A model of a few bytes and a small photograph, for the plug-ins of both GIMPs."""

import cv2
import numpy as np
import pytest
from support.mean_depth import depth_artifact


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return depth_artifact(tmp_path_factory.mktemp("model")).path


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.mgrid[:48, :64]
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.stack([2 * rows + 20, 3 * columns, 100 + rows + columns], 2).astype(np.uint8))
    return path
