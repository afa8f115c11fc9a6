"""Resizing on a GPU around a network that runs there: the jobs of ``data/cuda/pixel.hpp``, launched from Python.

Results equal those of ``dpt_deploy.imaging``, whose tap tables are used, bit for bit; labels from logits may differ,
because sums are in another order. Experimental: not yet run on a GPU. The tests compute the same jobs on a CPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from ctypes import Structure, c_double, c_int, c_int64, c_ssize_t, c_void_p
from typing import Any

import numpy as np

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, RestoreRule
from dpt_deploy.imaging import resample
from dpt_deploy.runtime.cuda.arrays import DeviceArray
from dpt_deploy.runtime.cuda.driver import DeviceMemory, Stream
from dpt_deploy.runtime.tensorrt.kernels import Kernels

_KEPT_FILTERS = 16


class TapView(Structure):
    """One axis of a filter: four index arrays, four weight arrays."""

    _fields_ = (("index", c_void_p * 4), ("weight", c_void_p * 4))


class PixelView(Structure):
    """Image with interleaved bytes."""

    _fields_ = (("data", c_void_p), ("row_bytes", c_ssize_t), ("step", c_int), ("rgb", c_int * 3))


class InputJob(Structure):
    """An image to the network's input: float32 planes, or (where ``bytes`` is set) interleaved bytes."""

    _fields_ = (
        ("image", PixelView),
        ("rows", TapView),
        ("cols", TapView),
        ("height", c_int64),
        ("width", c_int64),
        ("mean", c_double * 3),
        ("std", c_double * 3),
        ("planes", c_void_p),
        ("bytes", c_void_p),
    )


class MapJob(Structure):
    """A map to another size."""

    _fields_ = (
        ("values", c_void_p),
        ("source_width", c_int64),
        ("rows", TapView),
        ("cols", TapView),
        ("height", c_int64),
        ("width", c_int64),
        ("out", c_void_p),
    )


class ScoreJob(Structure):
    """Logits to labels of another size."""

    _fields_ = (
        ("logits", c_void_p),
        ("classes", c_int),
        ("source_height", c_int64),
        ("source_width", c_int64),
        ("rows", TapView),
        ("cols", TapView),
        ("height", c_int64),
        ("width", c_int64),
        ("out", c_void_p),
    )


class LabelJob(Structure):
    """Labels of the graph to labels of another size."""

    _fields_ = (
        ("labels", c_void_p),
        ("source_height", c_int64),
        ("source_width", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("out", c_void_p),
    )


class FiniteJob(Structure):
    """Check that all numbers are finite."""

    _fields_ = (("values", c_void_p), ("height", c_int64), ("width", c_int64), ("found", c_void_p))


class _DeviceTaps:
    """A filter and its copy on the device."""

    def __init__(self, taps: resample.Taps, stream: Stream) -> None:
        table = np.ascontiguousarray(taps.weight), np.ascontiguousarray(taps.index, np.int32)
        count = taps.index.shape[1]
        self._memory = DeviceMemory(sum(part.nbytes for part in table))
        self.view, address = TapView(), self._memory.address
        for name, part in zip(("weight", "index"), table, strict=True):
            stream.to_device(address, part.ctypes.data, part.nbytes)
            setattr(self.view, name, (c_void_p * 4)(*(address + k * count * part.itemsize for k in range(4))))
            address += part.nbytes
        stream.synchronize()  # the tables on the host are freed on return

    def close(self) -> None:
        self._memory.close()


class DeviceImaging:
    """Queues resizes on ``stream`` between memory of its callers; holds filters until it is closed."""

    def __init__(self, stream: Stream, kernels: Kernels) -> None:
        self._stream, self._kernels = stream, kernels
        self._filters: OrderedDict[tuple[str, int, int], _DeviceTaps] = OrderedDict()

    def new(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """Allocate an array on the device."""
        return DeviceArray(shape, dtype, self._stream)

    def prepare(self, image: int, size: Size, rule: ImageSpec, target: DeviceArray) -> None:
        """Resize the RGB image (H, W, 3) uint8 at the address ``image`` into the network's input ``target``.

        ``target`` is (1, 3, h, w) float32, or (1, h, w, 3) uint8 for a network that normalises in its graph.
        """
        planes = target.dtype == np.float32
        height, width = target.shape[2:] if planes else target.shape[1:3]
        job = InputJob(height=height, width=width)
        job.image = PixelView(data=image, row_bytes=3 * size.width, step=3, rgb=(c_int * 3)(0, 1, 2))
        job.rows = self._taps(resample.opencv_taps, size.height, height)
        job.cols = self._taps(resample.opencv_taps, size.width, width)
        job.mean, job.std = (c_double * 3)(*rule.mean), (c_double * 3)(*rule.std)
        job.planes, job.bytes = (target.address, None) if planes else (None, target.address)
        self._kernels.launch("InputJob", job, self._stream)

    def depth(self, output: DeviceArray, size: Size, target: int, rule: RestoreRule = "bicubic") -> None:
        """Resize depth (1, h, w) to ``size``, (H, W) float32, at the address ``target``."""
        height, width = output.shape[-2:]
        job = MapJob(values=output.address, source_width=width, height=size.height, width=size.width)
        job.rows = self._taps(resample.RESTORING[rule], height, size.height)
        job.cols = self._taps(resample.RESTORING[rule], width, size.width)
        job.out = target
        self._kernels.launch("MapJob", job, self._stream)

    def labels(self, output: DeviceArray, size: Size, target: int, rule: RestoreRule = "bicubic") -> None:
        """Turn logits (1, C, h, w), or 0-based labels (1, h, w), into 1-based labels (H, W) uint16.

        The labels have ``size`` and are written to the address ``target``.
        """
        height, width = output.shape[-2:]
        common = {"source_height": height, "source_width": width, "height": size.height, "width": size.width}
        if output.dtype.kind == "i":
            job: Structure = LabelJob(labels=output.address, out=target, **common)
            self._kernels.launch(f"LabelJob<std::{output.dtype.name}_t>", job, self._stream)
            return
        job = ScoreJob(logits=output.address, classes=output.shape[1], out=target, **common)
        job.rows = self._taps(resample.RESTORING[rule], height, size.height)
        job.cols = self._taps(resample.RESTORING[rule], width, size.width)
        self._kernels.launch("ScoreJob", job, self._stream)

    def check(self, output: DeviceArray, flag: int) -> None:
        """Set the number at the address ``flag`` if ``output`` holds NaN or infinity."""
        rows = int(np.prod(output.shape[:-1], dtype=np.int64))
        job = FiniteJob(values=output.address, height=rows, width=output.shape[-1], found=flag)
        self._kernels.launch("FiniteJob", job, self._stream)

    def close(self) -> None:
        """Free the filters after queued work has ended."""
        with ExitStack() as steps:
            for filtering in self._filters.values():
                steps.callback(filtering.close)
            steps.callback(self._stream.synchronize)
        self._filters.clear()

    def _taps(self, make: Callable[[int, int], resample.Taps], length: int, target: int) -> TapView:
        """Return a filter on the device; the least recently used ones are freed if there are too many."""
        key = (make.__name__, length, target)
        if key not in self._filters:
            while len(self._filters) >= _KEPT_FILTERS:
                self._stream.synchronize()
                self._filters.popitem(last=False)[1].close()
            self._filters[key] = _DeviceTaps(make(length, target), self._stream)
        self._filters.move_to_end(key)
        return self._filters[key].view
