"""Photographs with a label map each: ADE20K and Pascal Context.

ADE20K, the SceneParsing release (Zhou et al. 2017), 2000 validation images of 150 classes:

    images/validation/ADE_val_00000001.jpg      annotations/validation/ADE_val_00000001.png

Pascal Context (Mottaghi et al. 2014), 5105 validation images of 59 classes, as MMSegmentation's converter writes them
from ``trainval_merged.json`` (classes in alphabetical order: a model must have been trained with the same):

    JPEGImages/2008_000002.jpg      SegmentationClassContext/2008_000002.png      ImageSets/SegmentationContext/val.txt

In both, 0 marks unlabelled pixels and 1 is the first class. Pascal Context's 60th class, the background, is left out as
in the works that the paper compares with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.datasets.base import Sample, check_shape
from dpt_deploy.datasets.folders import Search, read_lines
from dpt_deploy.datasets.paired import Entry
from dpt_deploy.datasets.pictures import read_map, read_rgb
from dpt_deploy.datasets.protocols import PROTOCOLS


def open_folder(root: Path, name: str) -> Labelled:
    """Open the validation images; raises :class:`BadFileError` when an image, a label map or the list is missing."""
    entries = _ade20k(root) if name == "ade20k" else _pascal_context(root)
    return Labelled(entries, PROTOCOLS[name].classes)


class Labelled:
    """``entries`` of images and label maps of ``classes`` classes."""

    def __init__(self, entries: list[Entry], classes: int) -> None:
        self._entries, self._classes = entries, classes
        self.names = [name for name, _, _ in entries]

    def read(self, index: int) -> Sample:
        name, image_path, label_path = self._entries[index]
        image, labels = read_rgb(image_path), read_map(label_path)
        check_shape(labels, image, "the label map")
        if labels.max() > self._classes:
            raise BadFileError(
                f"{label_path} holds the label {labels.max()}; there are {self._classes} classes",
                hint="use the maps of the layout that dpt_deploy.datasets.segmentation describes",
            )
        return Sample(name, image, labels > 0, labels=labels.astype(np.uint8))


def _ade20k(root: Path) -> list[Entry]:
    search = Search(root, "ADE20K", "name the folder ADEChallengeData2016 of the SceneParsing release")
    images = search.some("images/validation/*", suffixes=(".jpg",))
    maps = search.some("annotations/validation/*", suffixes=(".png",))
    search.finish()
    return search.pairs(images, maps, lambda path: path.stem)


def _pascal_context(root: Path) -> list[Entry]:
    search = Search(root, "Pascal Context", "name the folder VOC2010, after converting trainval_merged.json to maps")
    listed = search.one("ImageSets/SegmentationContext/val.txt")
    images, maps = search.one("JPEGImages"), search.one("SegmentationClassContext")
    search.finish()
    names = [line for line in read_lines(listed) if line]
    entries = [(name, images / f"{name}.jpg", maps / f"{name}.png") for name in names]
    search.every([path for entry in entries for path in entry[1:]], "listed files")
    if not entries:
        search.fail(f"{listed.name} is empty")
    return entries
