"""Resampling as cv2 and PyTorch do it, in NumPy: cubic, bicubic, bilinear, and of label maps."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import RestoreRule

_BLOCK_BYTES = 160 << 10  # of resized rows at a time: the working set stays in the cache of one core
_MAX_TILE = 64  # side of an output tile of labels, in pixels
_WHOLE_BYTES = 8 << 20  # of pixels that OpenCV resizes at once: it holds eight times as much in float64

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Taps:
    """One axis of a separable filter: output i is the sum over k of ``weight[k, i] * input[index[k, i]]``.

    Both arrays are (4, outputs).
    """

    index: NDArray[np.intp]
    weight: NDArray[Any]

    def __getitem__(self, part: slice) -> Self:
        return type(self)(self.index[:, part], self.weight[:, part])

    def interleaved(self, channels: int) -> Self:
        """This filter along an axis whose entries are ``channels`` interleaved values."""
        index = self.index[:, :, None] * channels + np.arange(channels)
        return type(self)(index.reshape(4, -1), np.repeat(self.weight, channels, axis=1))

    def compacted(self) -> tuple[NDArray[np.intp], Self]:
        """The inputs that are used at all, sorted, and the filter over those alone."""
        needed, position = np.unique(self.index, return_inverse=True)
        return needed, type(self)(position.reshape(self.index.shape), self.weight)

    def dense(self) -> tuple[NDArray[Any], slice]:
        """The filter as a matrix (outputs, inputs) over the contiguous range of inputs that it uses."""
        used = slice(int(self.index.min()), int(self.index.max()) + 1)
        matrix = np.zeros((self.index.shape[1], used.stop - used.start), self.weight.dtype)
        for index, weight in zip(self.index, self.weight, strict=True):
            matrix[np.arange(len(index)), index - used.start] += weight
        return matrix, used


def _neighbours(first: NDArray[Any], length: int) -> NDArray[np.intp]:
    """The four inputs around each position, repeated at the border: (4, n)."""
    index: NDArray[np.intp] = np.clip(first.astype(np.intp) + np.arange(-1, 3)[:, None], 0, length - 1)
    return index


def opencv_taps(length: int, target: int) -> Taps:
    """OpenCV's ``interpolateCubic``: positions and weights in float32, the last weight is the rest to 1."""
    a, one = np.float32(-0.75), np.float32(1)
    position = ((np.arange(target) + 0.5) * (1.0 / (target / length)) - 0.5).astype(np.float32)
    first = np.floor(position)
    x = position - first
    w0 = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    w1 = ((a + 2) * x - (a + 3)) * x * x + 1
    w2 = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + 1
    weight = np.stack([w0, w1, w2, one - w0 - w1 - w2])
    return Taps(_neighbours(first, length), weight.astype(np.float64))


def _fma(a: np.float32 | NDArray[Any], b: NDArray[np.float32], c: float | np.float32) -> NDArray[np.float32]:
    """``a * b + c`` rounded once, to float32."""
    exact: NDArray[np.float64] = np.float64(a) * b.astype(np.float64) + c
    return exact.astype(np.float32)


def torch_taps(length: int, target: int) -> Taps:
    """PyTorch's ``upsample_bicubic2d``: positions and weights by fused multiply-add in float32.

    So compute its AVX2, AVX-512 and CUDA kernels. Its plain x86 kernel rounds twice; a position is then off by one
    float32 step, which white noise turns into 4e-5 of its range and a smooth map into 1e-6.
    """
    a = np.float32(-0.75)
    scale = np.float32(length) / np.float32(target)
    position = _fma(scale, np.arange(target, dtype=np.float32) + np.float32(0.5), -0.5)
    first = np.floor(position)
    x = position - first

    def near(d: NDArray[np.float32]) -> NDArray[np.float32]:
        return _fma(_fma(a + 2, d, -(a + 3)) * d, d, 1.0)

    def far(d: NDArray[np.float32]) -> NDArray[np.float32]:
        return _fma(_fma(_fma(a, d, -5 * a), d, 8 * a), d, -4 * a)

    return Taps(_neighbours(first, length), np.stack([far(x + 1), near(x), near(1 - x), far(2 - x)]))


def bilinear_taps(length: int, target: int) -> Taps:
    """PyTorch's ``upsample_bilinear2d`` with ``align_corners=False``: positions before the first input become 0."""
    scale = np.float32(length) / np.float32(target)
    position = _fma(scale, np.arange(target, dtype=np.float32) + np.float32(0.5), -0.5)
    return _linear(np.maximum(position, np.float32(0)), length)


def corner_taps(length: int, target: int) -> Taps:
    """PyTorch's ``upsample_bilinear2d`` with ``align_corners=True``: the first and the last pixels meet."""
    ratio = np.float32(length - 1) / np.float32(target - 1) if target > 1 else np.float32(0)
    return _linear(ratio * np.arange(target, dtype=np.float32), length)


def _linear(position: NDArray[np.float32], length: int) -> Taps:
    """Two taps in the frame of four, whose outer weights are 0: the kernels of the cubic filters compute it."""
    first = np.floor(position)
    x = position - first
    none = np.zeros_like(x)
    return Taps(_neighbours(first, length), np.stack([none, np.float32(1) - x, x, none]))


RESTORING: dict[RestoreRule, Callable[[int, int], Taps]] = {
    "bicubic": torch_taps,
    "bilinear": bilinear_taps,
    "bilinear-corners": corner_taps,
}


def _blocks(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _blend(values: NDArray[Any], taps: Taps, axis: int) -> NDArray[Any]:
    """Sum of four weighted gathers along ``axis`` of a matrix, first tap first (the order fixes the rounding)."""
    shape = (1, -1) if axis else (-1, 1)
    total: NDArray[Any] = np.take(values, taps.index[0], axis=axis, mode="clip")
    total *= taps.weight[0].reshape(shape)
    term = np.empty_like(total)
    for index, weight in zip(taps.index[1:], taps.weight[1:], strict=True):
        np.take(values, index, axis=axis, mode="clip", out=term)
        term *= weight.reshape(shape)
        total += term
    return total


def _separable(matrix: NDArray[Any], rows: Taps, cols: Taps, divisor: float = 1.0) -> NDArray[Any]:
    """``matrix / divisor`` filtered along its rows, then along its columns, in the weights' precision."""
    dtype, width = rows.weight.dtype, cols.index.shape[1]
    needed_rows, rows = rows.compacted()
    needed_cols, cols = cols.compacted()
    every = len(needed_cols) == matrix.shape[1]  # else the others are not converted
    step = max(1, _BLOCK_BYTES // (width * dtype.itemsize))
    wide = np.empty((len(needed_rows), width), dtype)
    for block in _blocks(len(wide), step):
        part = matrix[needed_rows[block]]
        values = (part if every else part.take(needed_cols, axis=1)).astype(dtype)
        if divisor != 1:
            values /= divisor
        wide[block] = _blend(values, cols, axis=1)
    out = np.empty((rows.index.shape[1], width), dtype)
    for block in _blocks(len(out), step):
        out[block] = _blend(wide, rows[block], axis=0)
    return out


def cubic(image: NDArray[Any], size: Size, divisor: float) -> NDArray[np.float64]:
    """``image`` over ``divisor``, resized with OpenCV's cubic filter; (H, W) or (H, W, C).

    OpenCV resizes bytes itself where it is loaded, which is faster, and returns the same bits.
    """
    if image.shape[:2] == (size.height, size.width):
        return image.astype(np.float64) / divisor
    opencv = sys.modules.get("cv2")
    if opencv is None or image.dtype != np.uint8 or image.nbytes > _WHOLE_BYTES or not _computes_the_same(opencv):
        return cubic_in_numpy(image, size, divisor)
    return _cubic_in_opencv(opencv, image, size, divisor)


def cubic_in_numpy(image: NDArray[Any], size: Size, divisor: float) -> NDArray[np.float64]:
    """The same, computed here; the parts of a large image that are not needed are not converted."""
    height, width, channels = *image.shape[:2], math.prod(image.shape[2:])
    rows, cols = opencv_taps(height, size.height), opencv_taps(width, size.width).interleaved(channels)
    flat = _separable(image.reshape(height, width * channels), rows, cols, divisor)
    return flat.reshape(size.height, size.width, *image.shape[2:])


def _cubic_in_opencv(opencv: Any, image: NDArray[np.uint8], size: Size, divisor: float) -> NDArray[np.float64]:
    quotients = np.arange(256, dtype=np.float64) / divisor  # of every byte: looked up instead of divided
    values = opencv.LUT(np.ascontiguousarray(image), quotients)
    resized: NDArray[np.float64] = opencv.resize(values, (size.width, size.height), interpolation=opencv.INTER_CUBIC)
    return resized


@cache
def _computes_the_same(opencv: Any) -> bool:
    """Compare one image with OpenCV: other versions, or kernels of other processors, may round in another order."""
    image = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    sizes = (Size(33, 80), Size(97, 31))
    return all(
        np.array_equal(_cubic_in_opencv(opencv, image, size, 255.0), cubic_in_numpy(image, size, 255.0))
        for size in sizes
    )


def resize_cubic(image: NDArray[Any], size: Size) -> NDArray[np.float64]:
    """A copy of ``image`` (H, W) or (H, W, C) at ``size``; equals ``cv2.resize(float64, INTER_CUBIC)`` in every bit."""
    return cubic(image, size, 1.0)


def resize_bicubic(values: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Maps (..., h, w) at ``size``, as PyTorch's ``interpolate(mode="bicubic")`` within 1e-6 of their range."""
    return restore(values, size, "bicubic")


def restore(values: NDArray[np.float32], size: Size, rule: RestoreRule) -> NDArray[np.float32]:
    """Maps (..., h, w) at ``size``, as PyTorch's ``interpolate`` in that mode within 1e-6 of their range."""
    taps = RESTORING[rule]
    rows, cols = taps(values.shape[-2], size.height), taps(values.shape[-1], size.width)
    out = np.empty((*values.shape[:-2], size.height, size.width), np.float32)
    for index in np.ndindex(values.shape[:-2]):
        out[index] = _separable(values[index], rows, cols)
    return out


def labels_from_logits(
    logits: NDArray[np.float32], size: Size, block_bytes: int = 64 * 2**20, *, rule: RestoreRule = "bicubic"
) -> NDArray[np.uint16]:
    """Labels (H, W), 1-based, of the largest of the ``logits`` (C, h, w) after resizing to ``size``.

    Works on tiles with all classes, so that besides the result no more than about ``block_bytes`` are held: 150 classes
    at 1080p would be 1.2 GB. Within a tile the filter is two small matrix products, equal to :func:`restore` up
    to float32 rounding. The first of several equal classes wins; 0 is left to the background of the palette.
    """
    classes, height, width = logits.shape
    rows, cols = RESTORING[rule](height, size.height), RESTORING[rule](width, size.width)
    shrink = max(1.0, height / size.height, width / size.width)  # source pixels a side for one of the output
    tile = max(1, min(_MAX_TILE, int(math.sqrt(block_bytes / (12 * classes)) / shrink)))
    labels = np.empty((size.height, size.width), np.uint16)
    for part_h in _blocks(size.height, tile):
        for part_w in _blocks(size.width, tile):
            labels[part_h, part_w] = _tile_labels(logits, rows[part_h], cols[part_w])
    return labels


def _tile_labels(logits: NDArray[np.float32], rows: Taps, cols: Taps) -> NDArray[np.intp]:
    (down, used_h), (across, used_w) = rows.dense(), cols.dense()
    source = np.ascontiguousarray(logits[:, used_h, used_w].transpose(1, 2, 0), np.float32)  # (h, w, C)
    tall = (down @ source.reshape(len(source), -1)).reshape(len(down), *source.shape[1:])  # (H, w, C)
    best: NDArray[np.intp] = np.argmax(across @ tall, axis=-1)
    return best + 1


def resize_labels(labels: NDArray[Any], size: Size) -> NDArray[Any]:
    """Labels (h, w) at ``size``: each pixel takes the label under its centre (PyTorch's ``nearest-exact``)."""
    rows, cols = (
        (2 * np.arange(target) + 1) * length // (2 * target)
        for length, target in zip(labels.shape, (size.height, size.width), strict=True)
    )
    return labels[np.ix_(rows, cols)]
