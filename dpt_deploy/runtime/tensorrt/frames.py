"""One image on its way through a GPU and back while others are: memory of its own, and marks that tell how far it is.

Not run on a GPU yet (see ``trt_runner``).
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dpt_deploy.core.size import Size
from dpt_deploy.runtime.cuda.arrays import DeviceArray, DeviceView
from dpt_deploy.runtime.cuda.driver import DeviceMemory, Event, Stream

Held = TypeVar("Held", DeviceMemory, Event, "_Staging")
_KEPT_SIZES = 4
_FLAG_BYTES = 4


class Streams(NamedTuple):
    """Of an engine: copies up, runs, copies down."""

    up: Stream
    compute: Stream
    down: Stream


class _Staging:
    """Memory for one thing at a time, grown to the largest asked for."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned, self._held = pinned, DeviceMemory(0, pinned=pinned)

    @property
    def address(self) -> int:
        return self._held.address

    def memory(self, size_bytes: int) -> DeviceMemory:
        """At least ``size_bytes``; nothing may be on its way through what was there before.

        Where there is not so much, what was there is gone too, and the next call tries again.
        """
        if self._held.size_bytes < size_bytes:
            self._held.close()
            self._held = DeviceMemory(size_bytes, pinned=self._pinned)
        return self._held

    def close(self) -> None:
        self._held.close()


class DeviceFrame:
    """Where one image, its map and the network's two ends lie; used again when its map was taken.

    The order of calls: :meth:`upload` or :meth:`take`, :meth:`follow`, the work on the stream of runs,
    :meth:`download`, :meth:`wait`.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._ends: OrderedDict[Size, tuple[DeviceArray, DeviceArray]] = OrderedDict()
        with ExitStack() as undo:
            self._host_image, self._image, self._host_map, self._map = (
                self._made(undo, _Staging(pinned=pinned)) for pinned in (True, False, True, False)
            )
            self._host_flag = self._made(undo, DeviceMemory(_FLAG_BYTES, pinned=True))
            self._flag = self._made(undo, DeviceMemory(_FLAG_BYTES))
            self._uploaded, self._computed, self._downloaded = (self._made(undo, Event()) for _ in range(3))
            self._held = undo.pop_all()

    @staticmethod
    def _made(undo: ExitStack, what: Held) -> Held:
        undo.callback(what.close)
        return what

    @property
    def flag(self) -> int:
        """Address of the device's number that a check of the output raises."""
        return int(self._flag.address)

    def map(self, size_bytes: int) -> int:
        """Address of the device's memory for a map."""
        return int(self._map.memory(size_bytes).address)

    def upload(self, image: np.ndarray) -> int:
        """Queue the copy of an image of the host, which is free again at once; the address where it will lie."""
        staged, there = (each.memory(image.nbytes) for each in (self._host_image, self._image))
        staged.array(image.shape, image.dtype)[...] = image
        self._streams.up.to_device(there.address, staged.address, image.nbytes)
        return int(there.address)

    def take(self, image: DeviceView) -> int:
        """Queue the copy of an image of the device, which is its owner's until :meth:`have`; where it will lie."""
        size_bytes = int(np.prod(image.shape, dtype=np.int64)) * image.dtype.itemsize
        there = self._image.memory(size_bytes)
        self._streams.up.copy(there.address, image.address, size_bytes)
        return int(there.address)

    def have(self) -> None:
        """Wait until the image is here; what computes meanwhile is not waited for."""
        self._uploaded.wait()

    def follow(self) -> None:
        """What is queued on the stream of runs from now on finds the image there, and the flag down."""
        self._host_flag.array((1,), np.dtype(np.int32))[0] = 0
        self._streams.up.to_device(self._flag.address, self._host_flag.address, _FLAG_BYTES)
        self._uploaded.record(self._streams.up)
        self._streams.compute.follow(self._uploaded)

    def download(self, size_bytes: int) -> None:
        """Queue the copies of the flag and of ``size_bytes`` of the map, after what is queued on the stream of runs."""
        down = self._streams.down
        self._computed.record(self._streams.compute)
        down.follow(self._computed)
        if size_bytes:
            down.to_host(self._host_map.memory(size_bytes).address, self._map.address, size_bytes)
        down.to_host(self._host_flag.address, self._flag.address, _FLAG_BYTES)
        self._downloaded.record(down)

    def wait(self) -> bool:
        """Wait until it has come back; whether the flag is still down."""
        self._downloaded.wait()
        return int(self._host_flag.array((1,), np.dtype(np.int32))[0]) == 0

    def taken(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """A copy of the map that has come back."""
        size_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._host_map.memory(size_bytes).array(shape, dtype).copy()

    def ends(self, size: Size) -> tuple[DeviceArray, DeviceArray] | None:
        """The network's input and output of the last image of this size: between the same two, a run is replayed."""
        return self._ends.get(size)

    def keep(self, size: Size, ends: tuple[DeviceArray, DeviceArray]) -> None:
        """Have them used again; those used longest ago are freed, after what is queued."""
        self._ends[size] = ends
        self._ends.move_to_end(size)
        while len(self._ends) > _KEPT_SIZES:
            self._ends.popitem(last=False)

    def close(self) -> None:
        """Free everything, whatever fails of it; nothing may be on its way."""
        self._ends.clear()
        self._held.close()
