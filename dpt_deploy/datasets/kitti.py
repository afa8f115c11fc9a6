"""KITTI (Geiger et al. 2013): Eigen's 697 test frames with the improved ground truth of Uhrig et al. (2017).

    2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png     raw data, rectified; or raw/…
    val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/….png   16 bits: metres x 256, 0 where none;
    train/…                                                                or data_depth_annotated/…
    eigen_test_files_with_gt.txt                                           the list, as BTS has it (paths), or
                                                                           eigen_test_files.txt, test_files.txt
                                                                           (Monodepth's "DATE/DRIVE FRAME l")

``kitti`` is the zero-shot protocol: the listed frames of the official validation drives, which lie under ``val/``
(161), in full. ``kitti-metric`` takes both folders (652: the other 45 frames have no improved ground truth), cropped to
the benchmark's 352 x 1216, and measures inside Garg's crop of the full frame, as the evaluation code of BTS does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.folders import Search, read_lines, shown
from dpt_deploy.datasets.paired import PairedFiles, png_depth
from dpt_deploy.datasets.protocols import PROTOCOLS
from dpt_deploy.imaging.rules import kitti_crop
from dpt_deploy.measure.metrics import evaluation_crop

_LISTS = ("eigen_test_files_with_gt.txt", "eigen_test_files.txt", "test_files.txt")
_LINE = re.compile(r"(?P<date>\d{4}_\d\d_\d\d)/(?P<drive>\w+_sync)(?:/image_02/data/| +)(?P<number>\d+)(?P<rest>.*)")
_WITHOUT_TRUTH = "None"  # what some lists have in place of a path
_HINT = "raw data, data_depth_annotated, and the list of test frames (of BTS or Monodepth) belong into one folder"


class _Frame(NamedTuple):
    date: str
    drive: str
    number: str

    @property
    def name(self) -> str:
        return f"{self.drive}/{self.number}"

    def image(self, raw: Path) -> Path:
        return raw / self.date / self.drive / "image_02" / "data" / f"{self.number}.png"

    def truth(self, split: Path) -> Path:
        return split / self.drive / "proj_depth" / "groundtruth" / "image_02" / f"{self.number}.png"


def open_folder(root: Path, name: str) -> PairedFiles | BenchmarkFrames:
    """Open the listed frames that have ground truth; raises :class:`BadFileError` when a part is missing."""
    search = Search(root, "KITTI", _HINT)
    listed = search.one(*_LISTS)
    splits = [search.one("val", "data_depth_annotated/val")]
    if name == "kitti-metric":
        splits.append(search.one("train", "data_depth_annotated/train"))
    search.finish()
    frames = _frames(listed)
    if name == "kitti-metric":
        _require_drives(search, frames, splits)
    raw = root / "raw" if (root / "raw").is_dir() else root
    entries = [
        (frame.name, frame.image(raw), frame.truth(split))
        for frame in frames
        for split in splits
        if frame.truth(split).is_file()
    ]
    if not entries:
        search.fail(f"none of the {len(frames)} listed frames has ground truth under {shown([s.name for s in splits])}")
    search.every([image for _, image, _ in entries], "raw images")
    files = PairedFiles(entries, png_depth(256.0))
    return BenchmarkFrames(files) if name == "kitti-metric" else files


def _frames(path: Path) -> list[_Frame]:
    found = []
    for number, line in enumerate(read_lines(path), 1):
        match = _LINE.match(line)
        if match and _WITHOUT_TRUTH not in match["rest"].split():
            found.append(_Frame(match["date"], match["drive"], match["number"]))
        elif line and not match:
            raise BadFileError(
                f"{path} line {number} is malformed: {line[:80]!r}",
                hint="expected DATE/DRIVE/image_02/data/FRAME.png …, or DATE/DRIVE FRAME l",
            )
    return found


def _require_drives(search: Search, frames: list[_Frame], splits: list[Path]) -> None:
    """Refuse a drive without any ground truth; single frames may lack it."""
    drives = sorted({frame.drive for frame in frames})
    if absent := [drive for drive in drives if not any((split / drive).is_dir() for split in splits)]:
        search.fail(f"{len(absent)} of {len(drives)} drives have no ground truth: {shown(absent)}")


class BenchmarkFrames:
    """Full frames cropped to 352 x 1216; only pixels inside Garg's crop of the full frame are valid."""

    def __init__(self, files: PairedFiles) -> None:
        self._files = files
        self.names = files.names

    def read(self, index: int) -> Sample:
        full = self._files.read(index)
        crop = evaluation_crop(PROTOCOLS["kitti-metric"].crop, *full.valid.shape)
        valid = np.zeros_like(full.valid)
        valid[crop] = full.valid[crop]
        try:
            image, valid = kitti_crop(full.image), kitti_crop(valid)
            depth = None if full.depth is None else kitti_crop(full.depth)
        except UsageError as exc:
            raise BadFileError(str(exc), hint="use the raw images, not resized ones") from exc
        return Sample(full.name, image, valid, depth=depth)
