"""Learned tables of positions, resized to the grid of an image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized_table(table: Tensor, height: int, width: int) -> Tensor:
    """A table (1, C, h, w) on another grid: (1, C, height, width), bilinear with half-pixel centres.

    On its own grid it is returned as it is, where that is known: an image of one size then needs no resize in the
    graph.
    """
    if isinstance(height, int) and isinstance(width, int) and (height, width) == tuple(table.shape[2:]):
        return table
    return F.interpolate(table, size=(height, width), mode="bilinear", align_corners=False)
