"""Windows of a feature map: how Swin Transformers split it, shift it, and keep parts of it from each other.

The windows keep the size they were built with. A map that is not whole windows is padded with zeros, behind its last
row and column, and then shifted; the padding takes part in the attention of its window, as in the original. Hugging
Face pads first too; timm shifts first. Both give the same where the padding is nothing or half a window
(:attr:`~dpt_deploy.core.encoders.WindowedSpec.size_step`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpt_deploy.core.encoders import StageWindows

_APART = -100.0  # added to the logit of two cells that the shift brought together, as in the original code


@dataclass(frozen=True)
class AxisCells:
    """One axis of a map that is padded to ``count`` windows and shifted.

    ``source`` (P,) is the cell of the map that each place has, ``back`` (S,) the place of each cell; None where nothing
    moves. ``inside`` (P,) is 0.0 for padding; None where there is none. ``region`` (P,) tells apart the parts that the
    shift brought together.
    """

    count: int
    region: Tensor
    source: Tensor | None = None
    back: Tensor | None = None
    inside: Tensor | None = None


@dataclass(frozen=True)
class Partition:
    """The windows of a map, ``side`` cells a side; ``mask`` (windows, 1, N, N) is there if they are shifted."""

    side: int
    rows: AxisCells
    columns: AxisCells
    mask: Tensor | None

    def split(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to windows (B * windows, N, C) of N = side * side cells."""
        rows, columns = self.rows, self.columns
        for axis, cells in ((1, rows), (2, columns)):
            if cells.source is not None:
                x = x.index_select(axis, cells.source)
        for inside in (
            None if rows.inside is None else rows.inside[:, None, None],
            None if columns.inside is None else columns.inside[:, None],
        ):
            x = x if inside is None else x * inside
        x = x.reshape(x.shape[0], rows.count, self.side, columns.count, self.side, x.shape[3])
        return x.transpose(2, 3).reshape(-1, self.side**2, x.shape[5])

    def merge(self, windows: Tensor) -> Tensor:
        """Windows (B * windows, N, C) to the map (B, H, W, C)."""
        rows, columns, channels = self.rows, self.columns, windows.shape[2]
        x = windows.reshape(-1, rows.count, columns.count, self.side, self.side, channels).transpose(2, 3)
        x = x.reshape(-1, rows.count * self.side, columns.count * self.side, channels)
        for axis, cells in ((1, rows), (2, columns)):
            if cells.back is not None:
                x = x.index_select(axis, cells.back)
        return x


class MapWindows(nn.Module):
    """The partitions of a stage's map: as it lies, and shifted if the windows of this stage shift.

    ``aligned``: the map is whole windows at every legal size. Elsewhere a dynamic graph pads at every size, by nothing
    where there is nothing to pad.
    """

    def __init__(self, windows: StageWindows, *, aligned: bool) -> None:
        super().__init__()
        self.side, self.shift = windows
        self.aligned = aligned

    def forward(self, height: int, width: int, like: Tensor) -> tuple[Partition, Partition]:
        """The partitions of even and of odd blocks, on the device and in the type of ``like``."""
        plain = self._partition(height, width, 0, like)
        return plain, self._partition(height, width, self.shift, like) if self.shift else plain

    def _partition(self, height: int, width: int, shift: int, like: Tensor) -> Partition:
        rows, columns = self._cells(height, shift, like), self._cells(width, shift, like)
        return Partition(self.side, rows, columns, self._mask(rows, columns, like) if shift else None)

    def _cells(self, size: int, shift: int, like: Tensor) -> AxisCells:
        count = (size + self.side - 1) // self.side
        places = count * self.side
        cells = torch.arange(places, device=like.device)
        region = (cells >= places - self.side).long() + (cells >= places - shift).long()
        # While a dynamic graph is traced, the size is a symbol and no integer.
        whole = size % self.side == 0 if type(size) is int else self.aligned
        if whole and not shift:
            return AxisCells(count, region)
        source = torch.cat((cells[shift:], cells[:shift])) if shift else cells
        back = torch.cat((cells[places - shift :], cells[: places - shift])) if shift else cells
        if whole:
            return AxisCells(count, region, source, back)
        inside = (source < size).to(like.dtype)
        return AxisCells(count, region, source.clamp(max=size - 1), back[:size], inside)

    def _mask(self, rows: AxisCells, columns: AxisCells, like: Tensor) -> Tensor:
        region = 3 * rows.region[:, None] + columns.region[None, :]
        region = region.reshape(rows.count, self.side, columns.count, self.side).transpose(1, 2)
        region = region.reshape(-1, self.side**2)
        apart = region[:, None, :] != region[:, :, None]
        return (apart.to(like.dtype) * _APART)[:, None]


def offset_rows(side: int, device: torch.device | None = None) -> Tensor:
    """Rows of a table of offsets (``2 * side - 1`` squared) of every pair of cells of a window: (N, N)."""
    cells = torch.arange(side, device=device)
    offsets = cells[:, None] - cells[None, :] + (side - 1)
    rows = offsets[:, None, :, None] * (2 * side - 1) + offsets[None, :, None, :]
    return rows.reshape(side**2, side**2)
