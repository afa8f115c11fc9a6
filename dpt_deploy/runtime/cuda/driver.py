"""The parts of CUDA that a runner needs, over cuda-python: memory, copies, streams, events and captured graphs.

Every call is checked, and an error becomes one of this project's. Each object frees what it allocated.
Experimental: run on one GPU so far (``docs/explanation/engines.md``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from cuda.bindings import runtime

from dpt_deploy.core.errors import IncompatibleError, ResourceError


def call(name: str, *arguments: Any) -> Any:
    """Call one function of the CUDA runtime and return its result; None if it has none.

    Raises:
        ResourceError: out of memory, on the device or in pinned host memory, or the GPU failed.
        IncompatibleError: there is no driver or no GPU, or the driver is too old.
    """
    status, *results = getattr(runtime, name)(*arguments)
    kinds = runtime.cudaError_t
    if status != kinds.cudaSuccess:
        text = runtime.cudaGetErrorString(status)[1].decode()
        if status == kinds.cudaErrorMemoryAllocation:
            raise ResourceError(f"{name}: {text}", hint="use a smaller size or batch, or free some device memory")
        if status in (kinds.cudaErrorInsufficientDriver, kinds.cudaErrorNoDevice):
            raise IncompatibleError(f"{name}: {text}", hint="see `dpt-deploy doctor` for GPU and driver")
        raise ResourceError(f"the GPU failed in {name}: {text}", hint="start again; see the driver's log if it repeats")
    return results[0] if results else None


def current_device() -> int:
    """Return the device that this thread's calls go to."""
    return int(call("cudaGetDevice"))


@contextmanager
def on_device_of(device: int) -> Iterator[None]:
    """Direct calls inside the ``with`` block to ``device``, then back to the device before."""
    before = current_device()
    if before == device:
        yield
        return
    call("cudaSetDevice", device)
    try:
        yield
    finally:
        call("cudaSetDevice", before)


class DeviceMemory:
    """Device memory, or pinned host memory that NumPy can see; freed when it is closed."""

    def __init__(self, size_bytes: int, *, pinned: bool = False) -> None:
        self.size_bytes = size_bytes
        self._free = "cudaFreeHost" if pinned else "cudaFree"
        self.address = int(call("cudaMallocHost" if pinned else "cudaMalloc", max(1, size_bytes)))

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Pinned memory as an array; valid until it is closed."""
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        view = (ctypes.c_byte * count).from_address(self.address)
        return np.ndarray(shape, dtype, buffer=memoryview(view).cast("B"))

    def close(self) -> None:
        if self.address:
            address, self.address, self.size_bytes = self.address, 0, 0
            call(self._free, address)


class Stream:
    """A new stream, or the caller's by its raw handle; the caller's is not destroyed."""

    def __init__(self, handle: int | None = None) -> None:
        self._own = handle is None
        made = call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking) if handle is None else handle
        self.handle = int(made)

    @property
    def capturable(self) -> bool:
        """True if graphs can be captured: not on the default streams, whose handles are 0, 1 and 2."""
        return self.handle > 2

    def to_device(self, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy from host to device."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", target, source, size_bytes, kind, self.handle)

    def to_host(self, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy from device to host."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", target, source, size_bytes, kind, self.handle)

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """Queue a copy within the device."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        call("cudaMemcpyAsync", target, source, size_bytes, kind, self.handle)

    def follow(self, event: Event) -> None:
        """Make later work on this stream wait for work queued before ``event`` was recorded."""
        call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Wait for everything queued."""
        call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        handle, self.handle = self.handle, 0
        if self._own and handle:
            call("cudaStreamDestroy", handle)


class Event:
    """Mark in the work queued on a stream; other streams, or the host, can wait for it."""

    def __init__(self) -> None:
        self.handle = int(call("cudaEventCreateWithFlags", runtime.cudaEventDisableTiming))

    def record(self, stream: Stream) -> None:
        """Set the mark after all work queued on ``stream``."""
        call("cudaEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        """Wait, on the host, until the mark is reached."""
        call("cudaEventSynchronize", self.handle)

    def close(self) -> None:
        handle, self.handle = self.handle, 0
        if handle:
            call("cudaEventDestroy", handle)


class Capture:
    """Records the work queued on a stream inside the ``with`` block; ``graph`` replays it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.graph: Graph | None = None

    def __enter__(self) -> Self:
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self._stream.handle, mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recorded = call("cudaStreamEndCapture", self._stream.handle)  # after a failure too: ends capture mode
        if kind is None:
            self.graph = Graph(call("cudaGraphInstantiate", recorded, 0))
        call("cudaGraphDestroy", recorded)


class Graph:
    """A captured graph, ready to be launched."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        """Queue the captured work."""
        call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        if self._executable is not None:
            executable, self._executable = self._executable, None
            call("cudaGraphExecDestroy", executable)
