"""Deserialised engine with everything it holds on the GPU: memory, contexts and captured graphs.

There is one context per shape, because a captured CUDA graph belongs to the shapes that its context had. All contexts
share one scratch memory, since they run one after another on one stream. Copies have a stream in each direction. A
shape runs without a graph the first time, is captured the second time, and is replayed from then on. Contexts are kept
for the most recently used shapes. Experimental: run on one GPU so far (``docs/explanation/engines.md``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.core.errors import DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import Profile, choose_profile, largest_bytes
from dpt_deploy.core.size import Size
from dpt_deploy.runtime.cuda.arrays import DeviceArray, DeviceView
from dpt_deploy.runtime.cuda.driver import Capture, DeviceMemory, Graph, Stream, current_device
from dpt_deploy.runtime.tensorrt.frames import Streams
from dpt_deploy.runtime.tensorrt.lane import KEPT_GRAPHS, Lane, Shapes
from dpt_deploy.runtime.tensorrt.plan import deserialize, ends_of
from dpt_deploy.runtime.tensorrt.slots import BufferSlot


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
            self.input, self.outputs = ends_of(trt, self._engine, path)
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
        sizes = [largest_bytes(output, self._profiles) for output in self.outputs]
        slot = BufferSlot(largest_bytes(self.input, self._profiles), sizes)
        self._slots.append(slot)
        return slot

    def start(self, slot: BufferSlot, value: np.ndarray, batch: int, size: Size) -> Shapes:
        """Queue upload, run and download, each on its own stream, so that they overlap with those of other runs.

        Returns the shapes of the arrays that :meth:`finish` will return.
        """
        lane = self._lane(batch, size, value.shape)
        slot.reserve(self.output_bytes(lane))
        slot.host_input.array(value.shape, value.dtype)[...] = value
        self._up.to_device(slot.input.address, slot.host_input.address, value.nbytes)
        slot.uploaded.record(self._up)
        self.stream.follow(slot.uploaded)
        self._launch(lane, slot.input.address, [output.address for output in slot.outputs])
        slot.computed.record(self.stream)
        self._down.follow(slot.computed)
        for host, there, size_bytes in zip(slot.host_outputs, slot.outputs, self.output_bytes(lane), strict=True):
            self._down.to_host(host.address, there.address, size_bytes)
        slot.downloaded.record(self._down)
        return lane.output_shapes

    def finish(self, slot: BufferSlot, shapes: Shapes) -> dict[str, np.ndarray]:
        """Wait for the outputs of a slot and return copies by name."""
        slot.downloaded.wait()
        return {
            output.name: memory.array(shape, np.dtype(output.dtype)).copy()
            for output, memory, shape in zip(self.outputs, slot.host_outputs, shapes, strict=True)
        }

    def output_bytes(self, lane: Lane) -> list[int]:
        """Return the bytes of each output of a run of ``lane``."""
        return [
            int(np.prod(shape, dtype=np.int64)) * np.dtype(output.dtype).itemsize
            for output, shape in zip(self.outputs, lane.output_shapes, strict=True)
        ]

    def settle(self) -> None:
        """Wait for all queued work after a failure; errors of a lost GPU are ignored."""
        for stream in (self._up, self.stream, self._down):
            with suppress(DptError):
                stream.synchronize()

    def run_device(
        self, view: DeviceView, batch: int, size: Size, out: Mapping[str, DeviceView] | None
    ) -> dict[str, DeviceArray]:
        """Queue a run from the caller's memory into ``out``, or into new arrays, which are returned by name.

        Raises:
            UsageError: ``out`` lacks an output, or has an array of another type or shape.
            ResourceError: the GPU ran out of memory, or failed.
        """
        lane = self._lane(batch, size, view.shape)
        if out is not None:
            self._launch(lane, view.address, self._addresses(lane, out))
            return {}
        made = {
            output.name: DeviceArray(shape, np.dtype(output.dtype), self.stream)
            for output, shape in zip(self.outputs, lane.output_shapes, strict=True)
        }
        # New memory has new addresses: a graph would not help.
        self.enqueue(lane, view.address, [array.address for array in made.values()])
        for array in made.values():
            array.mark()
        return made

    def _addresses(self, lane: Lane, out: Mapping[str, DeviceView]) -> list[int]:
        """Return the addresses of the caller's arrays in the engine's order; raise :class:`UsageError` for others."""
        names = [output.name for output in self.outputs]
        if set(out) != set(names):
            raise UsageError(
                f"out= has {', '.join(sorted(out)) or 'nothing'}; the outputs are {', '.join(names)}",
                hint="pass one array for each output, by its name",
            )
        for output, shape in zip(self.outputs, lane.output_shapes, strict=True):
            given, dtype = out[output.name], np.dtype(output.dtype)
            if (given.shape, given.dtype) != (shape, dtype):
                raise UsageError(
                    f"{output.name} is {dtype}{list(shape)}; out= is {given.dtype}{list(given.shape)}",
                    hint="pass an array of that type and shape, or omit out=",
                )
        return [out[name].address for name in names]

    def bare(self, view: DeviceView, batch: int, size: Size, out: Mapping[str, DeviceView]) -> Callable[[], object]:
        """Return a function that only queues this run; valid until another shape or other addresses replace it.

        It keeps the memory of the run alive.
        """
        for _ in range(2):  # once without a graph, once captured
            self.run_device(view, batch, size, out)
        lane, stream = self._lane(batch, size, view.shape), self.stream
        graph = lane.graphs[(view.address, *self._addresses(lane, out))]
        ends = (view, *out.values())
        if graph is not None:
            return partial(_replay, graph, stream, ends)
        return partial(_enqueue_again, lane, stream, ends)

    def _launch(self, lane: Lane, source: int, targets: Sequence[int]) -> None:
        """Run between these addresses: without a graph first, captured the second time, replayed from then on."""
        addresses = (source, *targets)
        known, graph = addresses in lane.graphs, lane.graphs.get(addresses)
        if graph is None and known and self._capturable(lane):
            with Capture(self.stream) as capture:
                self.enqueue(lane, source, targets)
            graph = capture.graph
        if graph is not None:
            graph.launch(self.stream)
        else:
            self.enqueue(lane, source, targets)
        if not known and len(lane.graphs) >= KEPT_GRAPHS:
            self.stream.synchronize()  # the graph that will be closed may still run
        lane.keep(addresses, graph)

    def _capturable(self, lane: Lane) -> bool:
        """True if a run can be captured: the stream must allow it, and the context if the library has that check."""
        ask = getattr(lane.context, "is_stream_capturable", None)
        return self.stream.capturable and (ask is None or bool(ask(self.stream.handle)))

    def enqueue(self, lane: Lane, source: int, targets: Sequence[int]) -> None:
        """Queue a run of a lane without a graph, from the address of the input to those of the outputs.

        Raises:
            ResourceError: the library does not start it.
        """
        lane.context.set_tensor_address(self.input.name, source)
        for output, target in zip(self.outputs, targets, strict=True):
            lane.context.set_tensor_address(output.name, target)
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
        return Lane(context, tuple(tuple(context.get_tensor_shape(output.name)) for output in self.outputs))

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


def _replay(graph: Graph, stream: Stream, _ends: Sequence[DeviceView]) -> None:
    graph.launch(stream)


def _enqueue_again(lane: Lane, stream: Stream, _ends: Sequence[DeviceView]) -> None:
    lane.context.execute_async_v3(stream.handle)
