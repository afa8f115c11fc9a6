"""Runner over TensorRT and TensorRT-RTX: runs a plan on the GPU that it was built for.

Experimental: run on one GPU so far (``docs/explanation/engines.md``). Its logic is tested with a fake
CUDA and a fake TensorRT (``tests/runtime/tensorrt/test_runner.py``). The tests in ``tests/gpu`` need a GPU and have not
been run.
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
from dpt_deploy.runtime.request import RunnerRequest
from dpt_deploy.runtime.tensorrt.arguments import by_name, fitting, only, views
from dpt_deploy.runtime.tensorrt.engine import OpenEngine
from dpt_deploy.runtime.tensorrt.layer_times import layer_seconds
from dpt_deploy.runtime.tensorrt.slots import BufferSlot, Ticket

KEPT_SHAPES = 8
LAYER_RUNS = 20  # averaged for the time of each layer
SLOTS = 2  # simultaneous runs: one computes while the other is copied


class TrtRunner:
    """Runs a plan. ``profiles`` are its sidecar's; ``stream`` is the caller's raw handle (default: a new stream).

    Experimental: run on one GPU so far.

    Several threads may call it; they take turns on the device, and their copies overlap. ``slots`` limits the
    simultaneous runs from host to host; each slot holds memory for the largest shape. ``host_code`` allows the code for
    the host that a version-compatible plan contains.
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
        self._waiting: list[Ticket] = []  # submitted and not yet collected, in order
        self._users = 0  # threads that read the engine's memory without holding the lock
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
                if error is None:  # otherwise a lost GPU would raise a second error
                    raise

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return (self._opened().input,)

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return self._opened().outputs

    @contextmanager
    def exclusive(self) -> Iterator[OpenEngine]:
        """Give this thread the open engine alone; inside the ``with`` block calls go to its device.

        All work for its stream is queued inside such a block, because another thread may be capturing.
        """
        with self._turn:
            opened = self._opened()
            with on_device_of(opened.device):
                yield opened

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the engine from being freed inside the ``with`` block; other threads may queue work meanwhile."""
        with self._turn:
            self._opened()
            self._users += 1
        try:
            yield
        finally:
            self._left()

    def wait_for_users(self) -> None:
        """Return when no thread reads the engine's memory; the caller's lock is released while waiting."""
        while self._users:
            self._turn.wait()

    def _left(self) -> None:
        with self._turn:
            self._users -= 1
            self._turn.notify_all()

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run once, from host to host.

        Raises:
            UsageError: name, dtype or shape of the input does not fit the engine; the message lists its profiles.
            ResourceError: the GPU ran out of memory, or failed.
        """
        return self.collect(self.submit(inputs))

    def submit(self, inputs: Tensors) -> Ticket:
        """Queue one run from host to host and return at once; the input array may be reused.

        If all slots are taken, wait until another thread collects a run.

        Raises:
            UsageError: the input does not fit the engine, or this thread holds all tickets and would wait for itself.
        """
        with self.exclusive() as opened:
            value = fitting(inputs, opened)  # before waiting: an input that does not fit is refused at once
            self._wait_for_slot()
            return self._start(opened, value)

    def try_submit(self, inputs: Tensors) -> Ticket | None:
        """Queue one run as :meth:`submit` does; return None and queue nothing if it would have to wait.

        Raises:
            UsageError: the input does not fit the engine.
        """
        with self.exclusive() as opened:
            value = fitting(inputs, opened)
            return self._start(opened, value) if len(self._waiting) < self._most else None

    def _start(self, opened: OpenEngine, value: np.ndarray) -> Ticket:
        ticket = Ticket(threading.get_ident())
        try:
            ticket.slot = opened.take_slot()
            ticket.output_shapes = opened.start(ticket.slot, value, *opened.check(value.shape, value.dtype))
        except DptError as exc:  # a device error belongs to the run, and is raised with its result
            ticket.error = exc
            opened.settle()
        self._waiting.append(ticket)
        return ticket

    def collect(self, ticket: Ticket | None = None) -> dict[str, np.ndarray]:
        """Wait for the outputs of ``ticket`` (default: the run submitted first) and return them by name, once.

        Raises:
            UsageError: nothing was submitted, or the ticket was collected before.
            ResourceError, IncompatibleError: this run failed; the runner and other runs are not affected.
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
            return opened.finish(_held(ticket), ticket.output_shapes)
        finally:
            self._release(opened, ticket)
            self._left()

    def _wait_for_slot(self) -> None:
        """Return when a run may be queued; the caller's lock is released while waiting."""
        while len(self._waiting) >= self._most:
            if all(ticket.thread == threading.get_ident() for ticket in self._waiting):
                raise UsageError(
                    f"{len(self._waiting)} runs are queued, and this thread has collected none of them",
                    hint="call collect() before the next submit()",
                )
            self._turn.wait()
            self._opened()

    def _release(self, opened: OpenEngine, ticket: Ticket) -> None:
        with self._turn:
            if ticket in self._waiting:  # otherwise the runner was closed meanwhile
                self._waiting.remove(ticket)
                if ticket.slot is not None:
                    opened.give_slot(ticket.slot)
            self._turn.notify_all()

    def infer_device(self, inputs: Mapping[str, Any], out: Any = None) -> dict[str, Any]:
        """Queue one run on arrays that are on the device already, without copies and without waiting.

        Takes arrays with DLPack or ``__cuda_array_interface__`` (torch, CuPy, JAX); the run waits for the work that
        still fills them. With ``out``, a device array for each output by its name, the outputs are written there and
        returned, and runs between the same arrays are captured and replayed. A single output may be given without its
        name. Otherwise each output is a new :class:`DeviceArray`. The input must not change before the stream has
        reached the run.

        Raises:
            UsageError: an array does not fit, is not on the device, or is not contiguous.
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            view = device_view(only(inputs, opened.input), opened.stream)
            batch, size = opened.check(view.shape, view.dtype)
            if out is None:
                return dict(opened.run_device(view, batch, size, None))
            given = by_name(out, opened)
            opened.run_device(view, batch, size, views(given, opened))
            for array in given.values():
                if isinstance(array, DeviceArray):
                    array.mark(opened.stream)
            return given

    def bare_call(self, inputs: Mapping[str, Any], out: Any) -> Callable[[], object]:
        """Return the run of :meth:`infer_device` without the runner's own work, to measure its overhead.

        The arrays must stay in place, and the runner must not be used for anything else while this is called.
        """
        with self.exclusive() as opened:
            view = device_view(only(inputs, opened.input), opened.stream)
            batch, size = opened.check(view.shape, view.dtype)
            return opened.bare(view, batch, size, views(by_name(out, opened), opened))

    def to_device(self, value: np.ndarray) -> DeviceArray:
        """Copy a host array to the device; the copy is complete when this returns.

        Raises:
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            stream = opened.stream
            source = np.ascontiguousarray(value)
            made = DeviceArray(source.shape, source.dtype, stream)
            stream.to_device(made.address, source.ctypes.data, source.nbytes)
            made.mark()
            stream.synchronize()  # the caller may change the host array
            return made

    def information(self, inputs: Tensors | None = None) -> str:
        """Return the inspector's report on the engine's layers (JSON), for an audit.

        It is for the shape of ``inputs``; without them, types of tensors with dynamic shapes may be missing.

        Raises:
            UsageError: the inputs do not fit the engine.
            ResourceError: the GPU has no memory for another context.
        """
        with self.exclusive() as opened:
            if inputs is None:
                return opened.information()
            value = fitting(inputs, opened)
            return opened.information(opened.new_lane(*opened.check(value.shape, value.dtype), value.shape))

    def layer_seconds(self, inputs: Tensors, runs: int = LAYER_RUNS) -> dict[str, float]:
        """Return the mean seconds per run of each layer by the inspector's names; empty if the library reports none.

        Other runs wait meanwhile. They are no slower afterwards, because this one has a context of its own.

        Raises:
            UsageError: the inputs do not fit the engine, or ``runs`` is not positive.
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self.exclusive() as opened:
            value = fitting(inputs, opened)
            return layer_seconds(opened, value, *opened.check(value.shape, value.dtype), runs)

    def synchronize(self) -> None:
        """Wait for work queued on the runner's stream."""
        with self.exclusive() as opened:
            opened.stream.synchronize()

    def _opened(self) -> OpenEngine:
        if self._open is None:
            raise DptError("the runner was used outside its 'with' block")
        return self._open


def _held(ticket: Ticket) -> BufferSlot:
    if ticket.slot is None:
        raise DptError("a run without error has no slot")
    return ticket.slot
