"""TUM RGB-D (Sturm et al. 2012), dynamic scenes with people: two layouts.

The paper's 1815 frames are a release of Li et al. (2019, "Learning the Depths of Moving People"), one HDF5 file each,
anywhere under the folder:

    *.h5        /gt/img_1 (H, W, 3) float, RGB in 0..1;  /gt/gt_depth (H, W) float metres, 0 where none

Otherwise the folder holds sequences as the benchmark publishes them (or is one). The user chooses the sequences:

    <sequence>/rgb.txt, depth.txt      lines "timestamp path", comments begin with #
    <sequence>/associations.txt        optional list of frames: "timestamp path timestamp path", colour first
    <sequence>/depth/*.png             16 bits: metres x 5000, 0 where none, on the pixels of the colour image

Without ``associations.txt`` colour and depth are paired by time, as in the benchmark's own tool.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.base import Sample, depth_sample
from dpt_deploy.datasets.folders import Search, read_lines
from dpt_deploy.datasets.hdf5 import opened, read_array
from dpt_deploy.datasets.paired import Entry, PairedFiles, png_depth

_MAX_DIFFERENCE_S = 0.02  # the benchmark's default
_HINT = "unpack tum_hdf5 (the paper's frames), or sequences of the TUM RGB-D benchmark, into one folder"
Stamped = tuple[float, str]


def open_folder(root: Path, _name: str) -> PairedFiles | Hdf5Frames:
    """Open the frames of either layout; raises :class:`BadFileError` when neither is found or a part is missing."""
    if files := sorted(root.rglob("*.h5")):
        return Hdf5Frames(root, files)
    search = Search(root, "TUM RGB-D", _HINT)
    lists = search.some("rgb.txt", "*/rgb.txt", suffixes=(".txt",))
    if not lists:
        search.some("**/*", suffixes=(".h5",))
    search.finish()
    entries = [entry for path in lists for entry in _sequence(path.parent)]
    if not entries:
        search.fail(f"no colour image has a depth map within {_MAX_DIFFERENCE_S} s")
    return PairedFiles(entries, png_depth(5000.0))


class Hdf5Frames:
    """Frames stored as one HDF5 file each."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        self._files = files
        self.names = [path.relative_to(root).with_suffix("").as_posix() for path in files]

    def read(self, index: int) -> Sample:
        with opened(self._files[index]) as file:
            image, depth = (read_array(file, key) for key in ("gt/img_1", "gt/gt_depth"))
        if image.ndim != 3 or image.shape[2] != 3 or not (image.min() >= 0 and image.max() <= 1):
            raise BadFileError(
                f"gt/img_1 is {image.shape} with values {image.min()}..{image.max()}; expected (H, W, 3) in 0..1",
                hint="use the files of tum_hdf5 as they are",
            )
        return depth_sample(self.names[index], np.rint(image * 255).astype(np.uint8), depth)


def _sequence(folder: Path) -> list[Entry]:
    given = folder / "associations.txt"
    if given.is_file():
        pairs = [(words[1], words[3]) for words in _words(given, 4)]
    else:
        pairs = _associated(_stamped(folder / "rgb.txt"), _stamped(folder / "depth.txt"))
    return [(f"{folder.name}/{Path(colour).stem}", folder / colour, folder / depth) for colour, depth in pairs]


def _stamped(path: Path) -> list[Stamped]:
    return sorted((float(words[0]), words[1]) for words in _words(path, 2))


def _words(path: Path, least: int) -> list[list[str]]:
    """Split every line that is not a comment; raises :class:`BadFileError` unless it begins with a timestamp."""
    lines = [(number, line.split()) for number, line in enumerate(read_lines(path), 1) if line and line[0] != "#"]
    for number, words in lines:
        if len(words) < least or not words[0].replace(".", "", 1).isdecimal():
            raise BadFileError(
                f"{path} line {number} is malformed: {' '.join(words)[:80]!r}",
                hint=f"expected a timestamp and a path{', two times' if least > 2 else ''}",
            )
    return [words for _, words in lines]


def _associated(colours: list[Stamped], depths: list[Stamped]) -> list[tuple[str, str]]:
    """Pair files within 0.02 s, the closest first, each file once; the order is that of the colour images."""
    times = [time for time, _ in depths]
    near = [
        (abs(time - times[j]), i, j)
        for i, (time, _) in enumerate(colours)
        for j in range(*(bisect_left(times, time + sign * _MAX_DIFFERENCE_S) for sign in (-1, 1)))
    ]
    free, taken = set(range(len(depths))), {}
    for _, i, j in sorted(near):
        if i not in taken and j in free:
            taken[i] = j
            free.remove(j)
    return [(colours[i][1], depths[j][1]) for i, j in sorted(taken.items())]
