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
class Partition:
    """The windows of a map of H x W cells, N = side * side cells each, row by row.

    Attributes:
        cells: N.
        source: the cell of the map in each place of the windows, (windows * N,).
        back: the place of each cell, (H * W,).
        inside: 0.0 in places of padding, 1.0 elsewhere, (windows * N, 1); None where there is no padding.
        mask: (windows, 1, N, N), for logits; None where the windows do not shift.
    """

    cells: int
    source: Tensor
    back: Tensor
    inside: Tensor | None
    mask: Tensor | None

    def split(self, tokens: Tensor) -> Tensor:
        """Cells of the map (B, H * W, C) to windows (B * windows, N, C)."""
        placed = tokens.index_select(1, self.source)
        if self.inside is not None:
            placed = placed * self.inside
        return placed.reshape(-1, self.cells, tokens.shape[2])

    def merge(self, windows: Tensor) -> Tensor:
        """Windows (B * windows, N, C) to the cells of the map (B, H * W, C)."""
        return windows.reshape(-1, self.source.shape[0], windows.shape[2]).index_select(1, self.back)


@dataclass(frozen=True)
class _Axis:
    """One axis of a map that is padded to ``count`` windows and shifted.

    ``source`` (P,) is the cell of the map in each place; behind its end lies padding. ``region`` (P,) tells apart the
    parts that the shift brought together. ``padded`` is False where no place is padding.
    """

    count: int
    source: Tensor
    region: Tensor
    padded: bool


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
        rows, columns = self._axis(height, shift, like.device), self._axis(width, shift, like.device)
        inside = None
        if rows.padded or columns.padded:
            inside = (rows.source < height)[:, None] & (columns.source < width)[None, :]
            inside = self._by_window(rows, columns, inside.to(like.dtype))[:, None]
        source = rows.source.clamp(max=height - 1)[:, None] * width + columns.source.clamp(max=width - 1)[None, :]
        mask = self._mask(rows, columns, like) if shift else None
        back = self._back(rows, columns, height, width, shift)
        return Partition(self.side**2, self._by_window(rows, columns, source), back, inside, mask)

    def _axis(self, size: int, shift: int, device: torch.device) -> _Axis:
        # While a dynamic graph is traced, the size is a symbol and no integer.
        whole = size % self.side == 0 if type(size) is int else self.aligned
        count = size // self.side if whole else (size + self.side - 1) // self.side
        cells = torch.arange(count * self.side, device=device)
        region = (cells >= (count - 1) * self.side).long() + (cells >= count * self.side - shift).long()
        return _Axis(count, _rolled(cells, shift), region, not whole)

    def _by_window(self, rows: _Axis, columns: _Axis, values: Tensor) -> Tensor:
        """Values of the places, row by row (P, Q), window by window (P * Q,)."""
        return values.reshape(rows.count, self.side, columns.count, self.side).transpose(1, 2).flatten()

    def _back(self, rows: _Axis, columns: _Axis, height: int, width: int, shift: int) -> Tensor:
        """The place, counted window by window, of each cell of the map, (H * W,)."""
        inner, device = torch.arange(self.side, device=rows.source.device), rows.source.device
        outer_row, outer_column = (torch.arange(axis.count, device=device) for axis in (rows, columns))
        down = (outer_row[:, None] * (columns.count * self.side**2) + inner * self.side).flatten()
        across = (outer_column[:, None] * self.side**2 + inner).flatten()
        down, across = _rolled(down, -shift)[:height], _rolled(across, -shift)[:width]
        return (down[:, None] + across[None, :]).flatten()

    def _mask(self, rows: _Axis, columns: _Axis, like: Tensor) -> Tensor:
        region = self._by_window(rows, columns, 3 * rows.region[:, None] + columns.region[None, :])
        region = region.reshape(-1, self.side**2)
        apart = region[:, None, :] != region[:, :, None]
        return (apart.to(like.dtype) * _APART)[:, None]


def _rolled(values: Tensor, shift: int) -> Tensor:
    """Values from index ``shift`` on, then the first ones; a negative shift counts from the end."""
    if not shift:
        return values
    start = shift if shift > 0 else values.shape[0] + shift
    return torch.cat((values[start:], values[:start]))


def offset_rows(side: int, device: torch.device | None = None) -> Tensor:
    """Rows of a table of offsets (``2 * side - 1`` squared) of every pair of cells of a window: (N, N)."""
    cells = torch.arange(side, device=device)
    offsets = cells[:, None] - cells[None, :] + (side - 1)
    rows = offsets[:, None, :, None] * (2 * side - 1) + offsets[None, :, None, :]
    return rows.reshape(side**2, side**2)
