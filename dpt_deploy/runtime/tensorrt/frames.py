"""Memory and events of one image on its way through a GPU, while other images are on their way too.

Experimental: not yet run on a GPU.
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
    """An engine's streams for uploads, runs and downloads."""

    up: Stream
    compute: Stream
    down: Stream


class _Staging:
    """Memory for one array at a time; it grows to the largest one."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned, self._held = pinned, DeviceMemory(0, pinned=pinned)

    @property
    def address(self) -> int:
        return self._held.address

    def memory(self, size_bytes: int) -> DeviceMemory:
        """Return at least ``size_bytes``; no work may be queued on the memory returned before.

        If there is not enough, the old memory is freed too, and the next call tries again.
        """
        if self._held.size_bytes < size_bytes:
            self._held.close()
            self._held = DeviceMemory(size_bytes, pinned=self._pinned)
        return self._held

    def close(self) -> None:
        self._held.close()


class DeviceFrame:
    """Memory of one image, its map, and the network's input and output; reused after its map was taken.

    The order of calls: :meth:`upload` or :meth:`take`, :meth:`follow`, the work on the compute stream,
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
        """Address of the number on the device that the check for NaN and infinity sets."""
        return int(self._flag.address)

    def map(self, size_bytes: int) -> int:
        """Return the address of device memory for a map."""
        return int(self._map.memory(size_bytes).address)

    def upload(self, image: np.ndarray) -> int:
        """Queue the copy of a host image, which may be reused at once; return the address of the copy."""
        staged, there = (each.memory(image.nbytes) for each in (self._host_image, self._image))
        staged.array(image.shape, image.dtype)[...] = image
        self._streams.up.to_device(there.address, staged.address, image.nbytes)
        return int(there.address)

    def take(self, image: DeviceView) -> int:
        """Queue the copy of a device image, which must not change until :meth:`have`; return the copy's address."""
        size_bytes = int(np.prod(image.shape, dtype=np.int64)) * image.dtype.itemsize
        there = self._image.memory(size_bytes)
        self._streams.up.copy(there.address, image.address, size_bytes)
        return int(there.address)

    def have(self) -> None:
        """Wait for the copy of the image, but not for other work."""
        self._uploaded.wait()

    def follow(self) -> None:
        """Make later work on the compute stream wait for the image and for the cleared flag."""
        self._host_flag.array((1,), np.dtype(np.int32))[0] = 0
        self._streams.up.to_device(self._flag.address, self._host_flag.address, _FLAG_BYTES)
        self._uploaded.record(self._streams.up)
        self._streams.compute.follow(self._uploaded)

    def download(self, size_bytes: int) -> None:
        """Queue the copies of the flag and of ``size_bytes`` of the map, after the work on the compute stream."""
        down = self._streams.down
        self._computed.record(self._streams.compute)
        down.follow(self._computed)
        if size_bytes:
            down.to_host(self._host_map.memory(size_bytes).address, self._map.address, size_bytes)
        down.to_host(self._host_flag.address, self._flag.address, _FLAG_BYTES)
        self._downloaded.record(down)

    def wait(self) -> bool:
        """Wait for the copies; return True if the flag is still cleared."""
        self._downloaded.wait()
        return int(self._host_flag.array((1,), np.dtype(np.int32))[0]) == 0

    def taken(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Return a copy of the downloaded map."""
        size_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._host_map.memory(size_bytes).array(shape, dtype).copy()

    def ends(self, size: Size) -> tuple[DeviceArray, DeviceArray] | None:
        """Return the network's input and output of the last image of this size; between them a run is replayed."""
        return self._ends.get(size)

    def keep(self, size: Size, ends: tuple[DeviceArray, DeviceArray]) -> None:
        """Keep ``ends`` for the next image of this size; the least recently used ones are freed after queued work."""
        self._ends[size] = ends
        self._ends.move_to_end(size)
        while len(self._ends) > _KEPT_SIZES:
            self._ends.popitem(last=False)

    def close(self) -> None:
        """Free everything, even if some of it fails; no work may be queued."""
        self._ends.clear()
        self._held.close()
