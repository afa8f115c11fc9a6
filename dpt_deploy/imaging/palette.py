"""Colours of segmentation labels: row 0 is the background, row k is class k (1-based, as in the original)."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

ADE20K_CLASSES = 150


def palette(num_classes: int) -> NDArray[np.uint8]:
    """RGB colours (``num_classes`` + 1, 3): the ADE20K coding for 150 classes, else the Pascal VOC colour map."""
    return _ade20k() if num_classes == ADE20K_CLASSES else _pascal_voc(num_classes + 1)


def _ade20k() -> NDArray[np.uint8]:
    text = (files("dpt_deploy") / "data" / "palettes" / "ade20k.txt").read_text("utf-8")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return np.array(rows, np.uint8)


def _pascal_voc(entries: int) -> NDArray[np.uint8]:
    """Bits 0, 1, 2 of a label go to the top bit of red, green, blue; the next three to the bit below; and so on."""
    labels = np.arange(entries)[:, None]
    colours = np.zeros((entries, 3), np.uint8)
    for digit in range(8):
        colours |= ((labels >> (3 * digit + np.arange(3)) & 1) << (7 - digit)).astype(np.uint8)
    return colours
