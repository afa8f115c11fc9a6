"""Arrays that lie on the device, in and out: DLPack and ``__cuda_array_interface__``, through cuda-python's own views.

Not run on a GPU yet (see ``trt_runner``).
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

_LEGACY_STREAM = 1  # what DLPack means where a consumer names no stream


class DeviceArray:
    """An output on the device, as other libraries take it; its memory is freed with the object.

    ``torch.from_dlpack(array)`` and ``cupy.from_dlpack(array)`` wait for the run on their own stream. Who reads it by
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
        """Say that all that fills it is queued by now, on ``stream`` (default: that which it was made on)."""
        self._ready.record(stream or self._stream)

    def awaited_by(self, stream: Stream) -> None:
        """What is queued on ``stream`` from now on waits for what fills it."""
        stream.follow(self._ready)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = self._stream.handle or None  # none is left where the runner was closed, after all was done
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
        if stream != -1:  # -1: the consumer sees to the order itself
            Stream(_LEGACY_STREAM if stream is None else stream).follow(self._ready)
        view = StridedMemoryView.from_cuda_array_interface(self, stream_ptr=-1)
        return view.__dlpack__(stream=-1, max_version=max_version, dl_device=dl_device, copy=copy)

    def __del__(self) -> None:
        for held in (getattr(self, "_memory", None), getattr(self, "_ready", None)):  # absent where making them failed
            if held is not None:
                with suppress(DptError):  # a lost GPU has freed it already
                    held.close()


@dataclass(frozen=True)
class DeviceView:
    """Where another library's array lies; ``owner`` keeps it there."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


def device_view(value: Any, stream: Stream) -> DeviceView:
    """A view of an array of torch, CuPy, pycuda or JAX; ``stream`` is made to wait for what still fills it.

    Raises:
        UsageError: it is not on the device, or not in order.
    """
    if not on_device(value):
        raise UsageError(
            f"{type(value).__name__} is not on the device: it has neither __cuda_array_interface__ nor DLPack for CUDA",
            hint="give an array of torch, CuPy, pycuda or JAX on the GPU, or use infer() for arrays of the host",
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
            hint="give a plain array of one of NumPy's types, or copy it to the host",
        ) from exc
    if device != current_device():
        raise UsageError(
            f"the {type(value).__name__} lies on device {device}; the engine runs on device {current_device()}",
            hint="copy it there first",
        )
    if view.strides is not None and not _in_order(shape, tuple(view.strides)):
        raise UsageError("the array on the device is not contiguous", hint="copy it into order first")
    return DeviceView(int(view.ptr), shape, dtype, view)


def _in_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether ``strides`` (in elements) are those of a contiguous array; that of an axis of one says nothing."""
    wanted = (int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    return all(size == 1 or have == want for size, have, want in zip(shape, strides, wanted, strict=True))
