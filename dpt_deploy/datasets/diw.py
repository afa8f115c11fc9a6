"""Depth in the Wild (Chen et al. 2016): 74,441 test photographs with one pair of points each.

    DIW_test.csv (or DIW_Annotations/DIW_test.csv)     two lines an image: its path, and
                                                       y_A,x_A,y_B,x_B,relation,width,height
    DIW_test/….thumb                                   JPEG, at the path that the list gives, from this folder

Coordinates are pixels of the image, 1-based. ``>`` means that point A is farther away than B, ``<`` the reverse.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.base import OrdinalPair, Sample
from dpt_deploy.datasets.folders import Search, read_lines
from dpt_deploy.datasets.pictures import read_rgb

_HINT = "unpack DIW_test and DIW_Annotations_splitted into one folder"


def open_folder(root: Path, _name: str) -> OrderedPairs:
    """Open every listed image; raises :class:`BadFileError` for a malformed list or a missing first image."""
    search = Search(root, "Depth in the Wild", _HINT)
    listed = search.one("DIW_test.csv", "DIW_Annotations/DIW_test.csv")
    search.finish()
    lines = [line for line in read_lines(listed) if line]
    if not lines or len(lines) % 2:
        search.fail(f"{listed.name} has {len(lines)} lines; expected two for each image")
    reader = OrderedPairs(root, lines[::2], [_pair(listed, line) for line in lines[1::2]])
    search.one(lines[0])
    search.finish()
    return reader


class OrderedPairs:
    """Images of a list of paths, with one pair of points each."""

    def __init__(self, root: Path, names: list[str], pairs: list[OrdinalPair]) -> None:
        self._root, self._pairs = root, pairs
        self.names = names

    def read(self, index: int) -> Sample:
        image, pair = read_rgb(self._root / self.names[index]), self._pairs[index]
        height, width = image.shape[:2]
        for row, col in (pair.far, pair.near):
            if not (0 <= row < height and 0 <= col < width):
                raise BadFileError(
                    f"the point at row {row}, column {col} lies outside the image of {height}x{width}",
                    hint="use the images of the release at their own size",
                )
        return Sample(self.names[index], image, np.ones(image.shape[:2], bool), pairs=(pair,))


def _pair(path: Path, line: str) -> OrdinalPair:
    words = [word.strip() for word in line.split(",")]
    if len(words) < 5 or words[4][:1] not in ("<", ">") or not all(word.isdecimal() for word in words[:4]):
        raise BadFileError(
            f"{path} has a line that is malformed: {line[:80]!r}",
            hint="expected y_A,x_A,y_B,x_B,relation,width,height with < or > as the relation",
        )
    row_a, col_a, row_b, col_b = (int(word) - 1 for word in words[:4])
    a, b = (row_a, col_a), (row_b, col_b)
    return OrdinalPair(far=a, near=b) if words[4][0] == ">" else OrdinalPair(far=b, near=a)
