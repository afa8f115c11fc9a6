"""Arrays on a GPU, taken and returned by DLPack and ``__cuda_array_interface__``, through views of cuda-python.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda.core.utils import StridedMemoryView

from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.runner import CUDA_DEVICE, on_device
from dpt_deploy.runtime.cuda.driver import DeviceMemory, Event, Stream, current_device

_LEGACY_STREAM = 1  # DLPack's meaning of a consumer that names no stream


class DeviceArray:
    """An output on the device that other libraries can read; its memory is freed with the object.

    ``torch.from_dlpack(array)`` and ``cupy.from_dlpack(array)`` wait for the run on their own stream. A reader of
    ``__cuda_array_interface__`` waits on the stream named there, or calls ``runner.synchronize()``.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Stream) -> None:
        self.shape, self.dtype, self._stream = shape, dtype, stream
        with ExitStack() as undo:
            self._ready = Event()
            undo.callback(self._ready.close)
            self._memory = DeviceMemory(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
            undo.pop_all()

    @property
    def address(self) -> int:
        return self._memory.address

    def mark(self, stream: Stream | None = None) -> None:
        """Mark that all work that fills it is queued, on ``stream`` (default: the stream it was made on)."""
        self._ready.record(stream or self._stream)

    def awaited_by(self, stream: Stream) -> None:
        """Make later work on ``stream`` wait for the work that fills it."""
        stream.follow(self._ready)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = self._stream.handle or None  # 0 after the runner was closed, when all work is done
        pointer = (self.address, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": pointer, "version": 3, "stream": stream}

    def __dlpack_device__(self) -> tuple[int, int]:
        view = StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)
        return CUDA_DEVICE, int(view.device_id)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if stream != -1:  # -1: the consumer orders the work itself
            Stream(_LEGACY_STREAM if stream is None else stream).follow(self._ready)
        view = StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)
        return view.__dlpack__(stream=-1, max_version=max_version, dl_device=dl_device, copy=copy)

    def __del__(self) -> None:
        for held in (getattr(self, "_memory", None), getattr(self, "_ready", None)):  # absent if making them failed
            if held is not None:
                with suppress(DptError):  # a lost GPU has freed it already
                    held.close()


@dataclass(frozen=True)
class DeviceView:
    """Address of another library's array; ``owner`` keeps the memory alive."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


def device_view(value: Any, stream: Stream) -> DeviceView:
    """View an array of torch, CuPy or JAX; ``stream`` waits for the work that still fills it.

    Raises:
        UsageError: the array is not on the engine's device, or not contiguous.
    """
    if not on_device(value):
        raise UsageError(
            f"{type(value).__name__} is not on the device: it has neither __cuda_array_interface__ nor DLPack for CUDA",
            hint="pass an array of torch, CuPy or JAX on the GPU, or use infer() for host arrays",
        )
    if isinstance(value, DeviceArray):
        value.awaited_by(stream)
        return DeviceView(value.address, value.shape, value.dtype, value)
    try:
        view = StridedMemoryView.from_any_interface(value, stream_ptr=stream.handle)
        shape, dtype, device = tuple(view.shape), np.dtype(view.dtype), int(view.device_id)
    except Exception as exc:  # cuda.core has no closed set of errors
        raise UsageError(
            f"the {type(value).__name__} on the device cannot be read: {exc}",
            hint="pass an array of one of NumPy's types, or copy it to the host",
        ) from exc
    if device != current_device():
        raise UsageError(
            f"the {type(value).__name__} is on device {device}; the engine runs on device {current_device()}",
            hint="copy it there first",
        )
    if view.strides is not None and not _in_order(shape, tuple(view.strides)):
        raise UsageError("the array on the device is not contiguous", hint="make a contiguous copy first")
    return DeviceView(int(view.ptr), shape, dtype, view)


def _in_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """True if ``strides`` (in elements) are those of a contiguous array; the stride of an axis of size 1 is ignored."""
    wanted = (int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    return all(size == 1 or have == want for size, have, want in zip(shape, strides, wanted, strict=True))
