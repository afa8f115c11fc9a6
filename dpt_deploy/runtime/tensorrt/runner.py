"""TensorRT and TensorRT-RTX: runs a plan on the GPU that it was built for.

Nothing of this file has run on a GPU yet: its logic is tried over stand-ins
(``tests/runtime/tensorrt/test_runner.py``), and ``tests/gpu/test_engine.py`` waits for a machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dpt_deploy.core.errors import BadFileError, DptError, UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.cuda.arrays import DeviceArray, device_view
from dpt_deploy.runtime.cuda.driver import on_device_of
from dpt_deploy.runtime.registry import RunnerRequest
from dpt_deploy.runtime.tensorrt.engine import OpenEngine
from dpt_deploy.runtime.tensorrt.layer_times import layer_seconds
from dpt_deploy.runtime.tensorrt.slots import BufferSlot, Ticket

KEPT_SHAPES = 8
LAYER_RUNS = 20  # of which the mean of each layer's time is taken
SLOTS = 2  # runs on their way at once: one computes while the other is copied


class TrtRunner:
    """Runs a plan. ``profiles`` are those of its sidecar; ``stream`` is a raw handle of the caller's (default: own).

    May be called from several threads; they take turns on the device, and their copies overlap. ``slots`` is how many
    runs from host to host may be on their way at once; each holds memory for the largest shape. ``host_code`` allows a
    version-compatible plan the code for the host that it brings.
    """

    name = "trt"

    def __init__(
        self,
        path: Path,
        *,
        library: str,
        profiles: Sequence[Profile],
        stream: int | None = None,
        kept_shapes: int = KEPT_SHAPES,
        slots: int = SLOTS,
        host_code: bool = False,
    ) -> None:
        self._path, self._profiles, self._wanted_stream = path, tuple(profiles), stream
        self._trt: Any = import_module(library)
        self._kept, self._most, self._host_code = kept_shapes, slots, host_code
        self._turn = threading.Condition(threading.RLock())
        self._waiting: list[Ticket] = []  # submitted and not collected, in order
        self._users = 0  # threads that read memory of the engine, and do not hold the lock meanwhile
        self._open: OpenEngine | None = None

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Make a runner of an engine; ``request.part(record)`` checks that this machine can run it.

        Nothing is deserialised yet.

        Raises:
            MissingExtraError: the library that built the engine is not installed.
            IncompatibleError: the engine has no weights, or this machine cannot run it.
            ResourceError: the GPU's memory is too small.
        """
        record = request.described().engine
        if record is None:
            raise BadFileError(f"the sidecar of {request.path} describes no engine", hint="build the engine again")
        request.part(record)
        return cls(
            request.path,
            library=record.library,
            profiles=record.profiles,
            host_code=record.options.version_compatible,
        )

    def __enter__(self) -> Self:
        with self._turn:
            self._open = OpenEngine(
                self._trt, self._path, self._profiles, self._wanted_stream, self._kept, host_code=self._host_code
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            self.wait_for_users()
            opened, self._open = self._open, None
            self._waiting.clear()
            self._turn.notify_all()
            if opened is None:
                return
            try:
                with on_device_of(opened.device):
                    opened.close()
            except DptError:
                if error is None:  # else a lost GPU says so once more
                    raise

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return (self._opened().input,)

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return (self._opened().output,)

    @contextmanager
    def exclusive(self) -> Iterator[OpenEngine]:
        """The open engine, for this thread alone inside the ``with`` block, where calls go to its device.

        Whatever queues on its stream does so in here: another thread may be capturing.
        """
        with self._turn:
            opened = self._opened()
            with on_device_of(opened.device):
                yield opened

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing of the engine is freed before the ``with`` block ends; other threads may queue work meanwhile."""
        with self._turn:
            self._opened()
            self._users += 1
        try:
            yield
        finally:
            self._left()

    def wait_for_users(self) -> None:
        """Return when no thread reads memory of the engine; the caller holds the lock, which is lent meanwhile."""
        while self._users:
            self._turn.wait()

    def _left(self) -> None:
        with self._turn:
            self._users -= 1
            self._turn.notify_all()

    def infer(self, feed: Tensors) -> dict[str, np.ndarray]:
        """Run once, from host to host.

        Raises:
            UsageError: the feed's name, dtype or shape does not fit the engine; the message names its profiles.
            ResourceError: the GPU ran out of memory, or failed.
        """
        return self.collect(self.submit(feed))

    def submit(self, feed: Tensors) -> Ticket:
        """Queue one run from host to host and return at once; the feed's array is free again.

        Where as many runs as there are slots are on their way, waits until another thread collects one.

        Raises:
            UsageError: the feed does not fit the engine; or this thread holds all tickets and would wait for itself.
        """
        with self.exclusive() as opened:
            value = _fitting(feed, opened)  # before waiting: what does not fit is told at once
            self._wait_for_slot()
            return self._start(opened, value)

    def try_submit(self, feed: Tensors) -> Ticket | None:
        """:meth:`submit`; but None, and nothing is queued, where it would wait.

        Raises:
            UsageError: the feed does not fit the engine.
        """
        with self.exclusive() as opened:
            value = _fitting(feed, opened)
            return self._start(opened, value) if len(self._waiting) < self._most else None

    def _start(self, opened: OpenEngine, value: np.ndarray) -> Ticket:
        ticket = Ticket(threading.get_ident())
        try:
            ticket.slot = opened.take_slot()
            ticket.output_shape = opened.start(ticket.slot, value, *opened.check(value.shape, value.dtype))
        except DptError as exc:  # of the device: it belongs to the run, and is told with its result
            ticket.error = exc
            opened.settle()
        self._waiting.append(ticket)
        return ticket

    def collect(self, ticket: Ticket | None = None) -> dict[str, np.ndarray]:
        """The output of ``ticket`` (default: of the run submitted first), waited for; each can be had once.

        Raises:
            UsageError: nothing was submitted, or the ticket was collected before.
            ResourceError, IncompatibleError: what went wrong with that run; the others and the runner are not touched.
        """
        with self._turn:
            opened = self._opened()
            if ticket is None:
                ticket = next((each for each in self._waiting if not each.taken), None)
            if ticket is None or ticket.taken or ticket not in self._waiting:
                raise UsageError("there is no such run to collect", hint="collect each ticket of submit() once")
            ticket.taken = True
            self._users += 1
        try:
            if ticket.error is not None:
                raise ticket.error
            return {opened.output.name: opened.finish(_held(ticket), ticket.output_shape)}
        finally:
            self._release(opened, ticket)
            self._left()

    def _wait_for_slot(self) -> None:
        """Return when a run may be queued; the lock is held, and given away while waiting."""
        while len(self._waiting) >= self._most:
            if all(ticket.thread == threading.get_ident() for ticket in self._waiting):
                raise UsageError(
                    f"{len(self._waiting)} runs are on their way, and this thread has collected none of them",
                    hint="call collect() before the next submit()",
                )
            self._turn.wait()
            self._opened()

    def _release(self, opened: OpenEngine, ticket: Ticket) -> None:
        with self._turn:
            if ticket in self._waiting:  # else the runner was closed meanwhile
                self._waiting.remove(ticket)
                if ticket.slot is not None:
                    opened.give_slot(ticket.slot)
            self._turn.notify_all()

    def infer_device(self, feed: Mapping[str, Any], out: Any = None) -> dict[str, Any]:
        """Queue one run on arrays that are on the device already; nothing is copied, nothing waited for.

        Takes what has DLPack or ``__cuda_array_interface__`` (torch, CuPy, pycuda, JAX), after what still fills it.
        With ``out``, an array of the device, the output is written there and returned: between the same two arrays
        runs are captured and replayed. Otherwise it is a new :class:`DeviceArray`. The input must stay as it is until
        the stream has come so far.

        Raises:
            UsageError: an array that does not fit, is not on the device, or not contiguous.
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            view = device_view(_only(feed, opened.input), opened.stream)
            batch, size = opened.check(view.shape, view.dtype)
            target = None if out is None else device_view(out, opened.stream)
            made: DeviceArray | None = opened.run_device(view, batch, size, target)
            if isinstance(out, DeviceArray):
                out.mark(opened.stream)
            return {opened.output.name: out if made is None else made}

    def bare_call(self, feed: Mapping[str, Any], out: Any) -> Callable[[], object]:
        """The run of :meth:`infer_device` without what the runner does around it, to measure what that costs.

        The arrays must stay as they are, and the runner must not be used otherwise while this is called.
        """
        with self.exclusive() as opened:
            view = device_view(_only(feed, opened.input), opened.stream)
            batch, size = opened.check(view.shape, view.dtype)
            return opened.bare(view, batch, size, device_view(out, opened.stream))

    def to_device(self, value: np.ndarray) -> DeviceArray:
        """A copy of an array of the host on the device, complete when this returns.

        Raises:
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            stream = opened.stream
            source = np.ascontiguousarray(value)
            made = DeviceArray(source.shape, source.dtype, stream)
            stream.to_device(made.address, source.ctypes.data, source.nbytes)
            made.mark()
            stream.synchronize()  # the host's memory is not ours to hold
            return made

    def information(self, feed: Tensors | None = None) -> str:
        """What the engine's inspector says of its layers (JSON), for an audit; of the shape of ``feed``, without which
        types of dynamic shapes may not be told.

        Raises:
            UsageError: the feed does not fit the engine.
            ResourceError: the GPU has no memory for one more context.
        """
        with self.exclusive() as opened:
            if feed is None:
                return opened.information()
            value = _fitting(feed, opened)
            return opened.information(opened.new_lane(*opened.check(value.shape, value.dtype), value.shape))

    def layer_seconds(self, feed: Tensors, runs: int = LAYER_RUNS) -> dict[str, float]:
        """Mean seconds per run of each layer, by the inspector's names; empty where the library reports none.

        The other runs wait meanwhile, and are no slower afterwards: it runs in a context of its own.

        Raises:
            UsageError: the feed does not fit the engine, or ``runs`` is not positive.
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            value = _fitting(feed, opened)
            return layer_seconds(opened, value, *opened.check(value.shape, value.dtype), runs)

    def synchronize(self) -> None:
        """Wait for work queued on the runner's stream."""
        with self.exclusive() as opened:
            opened.stream.synchronize()

    def _opened(self) -> OpenEngine:
        if self._open is None:
            raise DptError("the runner was used outside its 'with' block")
        return self._open


def _fitting(feed: Tensors, opened: OpenEngine) -> np.ndarray:
    """The input, contiguous; raises :class:`UsageError` for one that does not fit."""
    value = np.ascontiguousarray(_only(feed, opened.input))
    opened.check(value.shape, value.dtype)
    return value


def _only(feed: Mapping[str, Any], spec: TensorSpec) -> Any:
    if set(feed) != {spec.name}:
        raise UsageError(
            f"the engine takes {spec.name!r}; the feed has {', '.join(map(repr, sorted(feed))) or 'nothing'}",
            hint="see its inputs with `dpt-deploy inspect`",
        )
    return feed[spec.name]


def _held(ticket: Ticket) -> BufferSlot:
    if ticket.slot is None:
        raise DptError("a run without error has no slot")
    return ticket.slot
