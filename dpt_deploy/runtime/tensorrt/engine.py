"""Deserialised engine with everything it holds on the GPU: memory, contexts and captured graphs.

There is one context per shape, because a captured CUDA graph belongs to the shapes that its context had. All contexts
share one scratch memory, since they run one after another on one stream. Copies have a stream in each direction. A
shape runs without a graph the first time, is captured the second time, and is replayed from then on. Contexts are kept
for the most recently used shapes. Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import Profile, choose_profile, largest_bytes
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.cuda.arrays import DeviceArray, DeviceView
from dpt_deploy.runtime.cuda.driver import Capture, DeviceMemory, Graph, Stream, current_device
from dpt_deploy.runtime.tensorrt.frames import Streams
from dpt_deploy.runtime.tensorrt.plan import deserialize
from dpt_deploy.runtime.tensorrt.slots import BufferSlot

KEPT_GRAPHS = 8  # per shape: one per slot, and those of callers that run between the same arrays repeatedly
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}


class Lane:
    """The context of one shape and its captured graphs.

    A graph contains the addresses that it was captured with. ``graphs`` holds them by input and output address; the
    value is None after the first run, which is not captured.
    """

    def __init__(self, context: Any, output_shape: tuple[int, ...]) -> None:
        self.context, self.output_shape = context, output_shape
        self.graphs: OrderedDict[tuple[int, int], Graph | None] = OrderedDict()

    def keep(self, addresses: tuple[int, int], graph: Graph | None) -> None:
        """Store a graph; the least recently used one is closed if there are too many."""
        self.graphs[addresses] = graph
        self.graphs.move_to_end(addresses)
        while len(self.graphs) > KEPT_GRAPHS:
            old = self.graphs.popitem(last=False)[1]
            if old is not None:
                old.close()

    def close(self) -> None:
        for graph in self.graphs.values():
            if graph is not None:
                graph.close()
        self.graphs.clear()


class OpenEngine:
    """Deserialised engine with its memory: everything a runner holds between enter and exit."""

    def __init__(
        self,
        trt: Any,
        path: Path,
        profiles: tuple[Profile, ...],
        stream: int | None,
        kept_shapes: int,
        *,
        host_code: bool = False,
    ) -> None:
        self.trt, self._profiles, self._kept = trt, profiles, kept_shapes
        self._lanes: OrderedDict[tuple[int, Size], Lane] = OrderedDict()
        self._slots: list[BufferSlot] = []
        self._free: list[BufferSlot] = []
        with ExitStack() as undo:
            self.stream, self._up, self._down = (self._streamed(undo, handle) for handle in (stream, None, None))
            self._runtime, self._engine = deserialize(trt, path, host_code=host_code)
            self._kernels: Any = None  # kernels compiled by TensorRT-RTX, shared by all contexts
            self.device = current_device()  # of the thread that opens it; calls of other threads are directed there
            self.input, self.output = _tensors(trt, self._engine, path)
            self._slot_bytes = largest_bytes(self.input, profiles), largest_bytes(self.output, profiles)
            self._scratch = DeviceMemory(self._engine.device_memory_size_v2)
            undo.callback(self._scratch.close)
            self._free.append(self._new_slot())  # most callers need one; another is made when two runs overlap
            undo.pop_all()

    @staticmethod
    def _streamed(undo: ExitStack, handle: int | None) -> Stream:
        stream = Stream(handle)
        undo.callback(stream.close)
        return stream

    def close(self) -> None:
        """Free everything, even if some of it fails; the engine is freed after its contexts."""
        with ExitStack() as steps:  # executed in reverse order
            for stream in (self.stream, self._up, self._down):
                steps.callback(stream.close)
            steps.callback(self._scratch.close)
            for slot in self._slots:
                steps.callback(slot.close)
            for lane in self._lanes.values():
                steps.callback(lane.close)
            for stream in (self._down, self.stream, self._up):
                steps.callback(stream.synchronize)
        self._lanes.clear()
        self._engine = self._runtime = self._kernels = None

    @property
    def streams(self) -> Streams:
        """Streams for uploads, runs and downloads."""
        return Streams(self._up, self.stream, self._down)

    def information(self, lane: Lane | None = None) -> str:
        """Return the inspector's JSON for the whole engine; types of dynamic tensors need a lane."""
        inspector = self._engine.create_engine_inspector()
        if lane is not None:
            inspector.execution_context = lane.context
        return str(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, Size]:
        """Return the batch and size of an input that fits; raise :class:`UsageError` for any other."""
        expected = self.input
        fits = len(shape) == len(expected.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(expected.shape, shape, strict=True)
        )
        if not fits or dtype != np.dtype(expected.dtype):
            wanted = ", ".join(map(str, expected.shape))
            raise UsageError(
                f"the engine does not accept {expected.name} {dtype}{list(shape)}; expected {expected.dtype} "
                f"({wanted})",
                hint="see its inputs with `dpt-deploy inspect`",
            )
        batch, *rest = shape
        height, width = rest[:2] if expected.shape[-1] == 3 else rest[1:]
        size = Size(int(height), int(width))
        choose_profile(self._profiles, int(batch), size)
        return int(batch), size

    def take_slot(self) -> BufferSlot:
        """Return memory for one more simultaneous run; the caller limits their number and gives it back."""
        return self._free.pop() if self._free else self._new_slot()

    def give_slot(self, slot: BufferSlot) -> None:
        """Take back the memory of a run that is over, or of a failed one whose queued work has ended."""
        self._free.append(slot)

    def _new_slot(self) -> BufferSlot:
        slot = BufferSlot(*self._slot_bytes)
        self._slots.append(slot)
        return slot

    def start(self, slot: BufferSlot, value: np.ndarray, batch: int, size: Size) -> tuple[int, ...]:
        """Queue upload, run and download, each on its own stream, so that they overlap with those of other runs.

        Returns the shape of the array that :meth:`finish` will return.
        """
        lane = self._lane(batch, size, value.shape)
        slot.host_input.array(value.shape, value.dtype)[...] = value
        self._up.to_device(slot.input.address, slot.host_input.address, value.nbytes)
        slot.uploaded.record(self._up)
        self.stream.follow(slot.uploaded)
        self._launch(lane, slot.input.address, slot.output.address)
        slot.computed.record(self.stream)
        self._down.follow(slot.computed)
        output_bytes = _bytes(lane.output_shape, np.dtype(self.output.dtype))
        self._down.to_host(slot.host_output.address, slot.output.address, output_bytes)
        slot.downloaded.record(self._down)
        return lane.output_shape

    def finish(self, slot: BufferSlot, shape: tuple[int, ...]) -> np.ndarray:
        """Wait for the output of a slot and return a copy."""
        slot.downloaded.wait()
        return slot.host_output.array(shape, np.dtype(self.output.dtype)).copy()

    def settle(self) -> None:
        """Wait for all queued work after a failure; errors of a lost GPU are ignored."""
        for stream in (self._up, self.stream, self._down):
            with suppress(DptError):
                stream.synchronize()

    def run_device(self, view: DeviceView, batch: int, size: Size, out: DeviceView | None) -> DeviceArray | None:
        """Queue a run from the caller's memory into ``out``, or into new memory, which is returned."""
        lane = self._lane(batch, size, view.shape)
        dtype = np.dtype(self.output.dtype)
        if out is not None:
            if (out.shape, out.dtype) != (lane.output_shape, dtype):
                raise UsageError(
                    f"the output is {dtype}{list(lane.output_shape)}; out= is {out.dtype}{list(out.shape)}",
                    hint="pass an array of that type and shape, or omit out=",
                )
            self._launch(lane, view.address, out.address)
            return None
        result = DeviceArray(lane.output_shape, dtype, self.stream)
        self.enqueue(lane, view.address, result.address)  # new memory has a new address: a graph would not help
        result.mark()
        return result

    def bare(self, view: DeviceView, batch: int, size: Size, out: DeviceView) -> Callable[[], object]:
        """Return a function that only queues this run; valid until another shape or other addresses replace it."""
        for _ in range(2):  # once without a graph, once captured
            self.run_device(view, batch, size, out)
        lane, stream = self._lane(batch, size, view.shape), self.stream
        graph = lane.graphs[view.address, out.address]
        if graph is not None:
            return lambda: graph.launch(stream)
        return lambda: lane.context.execute_async_v3(stream.handle)

    def _launch(self, lane: Lane, source: int, target: int) -> None:
        """Run between two addresses: without a graph first, captured the second time, replayed from then on."""
        known, graph = (source, target) in lane.graphs, lane.graphs.get((source, target))
        if graph is None and known and self._capturable(lane):
            with Capture(self.stream) as capture:
                self.enqueue(lane, source, target)
            graph = capture.graph
        if graph is not None:
            graph.launch(self.stream)
        else:
            self.enqueue(lane, source, target)
        if not known and len(lane.graphs) >= KEPT_GRAPHS:
            self.stream.synchronize()  # the graph that will be closed may still run
        lane.keep((source, target), graph)

    def _capturable(self, lane: Lane) -> bool:
        """True if a run can be captured: the stream must allow it, and the context if the library has that check."""
        ask = getattr(lane.context, "is_stream_capturable", None)
        return self.stream.capturable and (ask is None or bool(ask(self.stream.handle)))

    def enqueue(self, lane: Lane, input_address: int, output_address: int) -> None:
        """Queue a run of a lane without a graph.

        Raises:
            ResourceError: the library does not start it.
        """
        lane.context.set_tensor_address(self.input.name, input_address)
        lane.context.set_tensor_address(self.output.name, output_address)
        if not lane.context.execute_async_v3(self.stream.handle):
            raise ResourceError("TensorRT did not start the run", hint="use a smaller size or batch")

    def _lane(self, batch: int, size: Size, shape: tuple[int, ...]) -> Lane:
        """Return the lane of a shape, made if it is new; too many close the least recently used one."""
        key = (batch, size)
        if key in self._lanes:
            self._lanes.move_to_end(key)
            return self._lanes[key]
        lane = self._lanes[key] = self.new_lane(batch, size, shape)
        while len(self._lanes) > self._kept:
            self.stream.synchronize()
            self._lanes.popitem(last=False)[1].close()
        return lane

    def new_lane(self, batch: int, size: Size, shape: tuple[int, ...]) -> Lane:
        """Make a lane that is not kept: it is freed with the last reference to it."""
        profile = choose_profile(self._profiles, batch, size)
        context = self._engine.create_execution_context(self._how_to_run())
        if context is None:
            raise ResourceError("TensorRT has no memory for another context", hint="use fewer sizes or smaller ones")
        context.set_device_memory(self._scratch.address, self._scratch.size_bytes)
        done = context.set_optimization_profile_async(profile, self.stream.handle)
        self.stream.synchronize()
        if not (done and context.set_input_shape(self.input.name, shape)):
            raise IncompatibleError(
                f"the engine refuses {list(shape)} in its profile {self._profiles[profile]}",
                hint="the sidecar does not match the plan: build it again",
            )
        return Lane(context, tuple(context.get_tensor_shape(self.output.name)))

    def _how_to_run(self) -> Any:
        """Return the configuration of a context: our own memory, and kernels compiled at once.

        By default, TensorRT-RTX runs a new shape with fallback kernels while it compiles better ones. A graph captured
        meanwhile would keep the fallback kernels, so they are compiled before the first run. Contexts share them.
        """
        memory = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        when = getattr(self.trt, "DynamicShapesKernelSpecializationStrategy", None)
        if when is None:
            return memory
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(memory)
        config.dynamic_shapes_kernel_specialization_strategy = when.EAGER
        if self._kernels is None:
            self._kernels = config.create_runtime_cache()
        config.set_runtime_cache(self._kernels)
        return config


def _tensors(trt: Any, engine: Any, path: Path) -> tuple[TensorSpec, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(dim if dim >= 0 else f"d{axis}" for axis, dim in enumerate(engine.get_tensor_shape(name)))
        kind = engine.get_tensor_dtype(name).name
        mode = "input" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "output"
        found[mode] = TensorSpec(name, _DTYPES.get(kind, kind.lower()), shape)
    if engine.num_io_tensors != 2 or len(found) != 2:
        raise BadFileError(
            f"{path} has {engine.num_io_tensors} tensors; expected one in, one out", hint="build it again"
        )
    return found["input"], found["output"]


def _bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
