"""A deserialised engine with everything that it holds on the GPU: memory, contexts, captured graphs.

One context a shape, because a captured CUDA graph belongs to the shapes that its context had; all contexts share one
scratch memory, for only one runs at a time. A shape runs plainly the first time, is captured the second, and replayed
from then on. Contexts are kept for the shapes used last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import Profile, choose_profile
from dpt_deploy.core.spec import Size, TensorSpec
from dpt_deploy.runtime._cuda import Capture, Graph, Memory, Stream, call

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}


class DeviceArray:
    """An output on the device, as other libraries take it (``__cuda_array_interface__``); freed with the object.

    It is complete when the runner's stream has come so far: ``runner.synchronize()``, or the caller's own stream.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> None:
        self.shape, self.dtype, self._stream = shape, dtype, stream
        self._memory = Memory(_bytes(shape, dtype))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        pointer = (self._memory.address, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": pointer, "version": 3, "stream": self._stream}

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)  # absent where its allocation failed
        if memory is not None:
            with suppress(DptError):  # a lost GPU has freed it already
                memory.close()


class Lane:
    """The context of one shape, and its captured graph once there is one."""

    def __init__(self, context: Any, output_shape: tuple[int, ...]) -> None:
        self.context, self.output_shape = context, output_shape
        self.graph: Graph | None = None
        self.warm = False

    def close(self) -> None:
        if self.graph is not None:
            self.graph.close()
            self.graph = None


class OpenEngine:
    """A deserialised engine with its memory: everything that is held between enter and exit."""

    def __init__(
        self, trt: Any, path: Path, profiles: tuple[Profile, ...], stream: int | None, kept_shapes: int
    ) -> None:
        self._trt, self._profiles, self._kept = trt, profiles, kept_shapes
        self._lanes: OrderedDict[tuple[int, Size], Lane] = OrderedDict()
        with ExitStack() as undo:
            self.stream = Stream(stream)
            undo.callback(self.stream.close)
            self._runtime, self._engine = _deserialize(trt, path)
            self.input, self.output = _tensors(trt, self._engine, path)
            pixels = max(profile.pixels for profile in profiles)
            self._memory: dict[str, Memory] = {}
            for name, size_bytes, pinned in (
                ("input", _largest(self.input, pixels), False),
                ("output", _largest(self.output, pixels), False),
                ("host_input", _largest(self.input, pixels), True),
                ("host_output", _largest(self.output, pixels), True),
                ("scratch", self._engine.device_memory_size_v2, False),
            ):
                self._memory[name] = Memory(size_bytes, pinned=pinned)
                undo.callback(self._memory[name].close)
            undo.pop_all()

    def close(self) -> None:
        """Free everything, whatever fails of it; the engine goes after its contexts."""
        with ExitStack() as steps:  # the last one named is the first one done
            steps.callback(self.stream.close)
            for memory in self._memory.values():
                steps.callback(memory.close)
            for lane in self._lanes.values():
                steps.callback(lane.close)
            steps.callback(self.stream.synchronize)
        self._lanes.clear()
        self._engine = self._runtime = None

    def information(self) -> str:
        """The inspector's JSON of the whole engine."""
        form = self._trt.LayerInformationFormat.JSON
        return str(self._engine.create_engine_inspector().get_engine_information(form))

    def check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, Size]:
        """Batch and size of an input that fits; raises :class:`UsageError` for any other."""
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

    def run_host(self, value: np.ndarray, batch: int, size: Size) -> np.ndarray:
        """Copy in, run, copy out, wait. The array returned is the caller's."""
        lane = self._lane(batch, size, value.shape)
        dtype = np.dtype(self.output.dtype)
        self._memory["host_input"].array(value.shape, value.dtype)[...] = value
        if lane.graph is None and lane.warm and self.stream.capturable:
            lane.graph = self._capture(lane, value.nbytes)
        if lane.graph is not None:
            lane.graph.launch(self.stream)
        else:
            self._queue(lane, value.nbytes)
        self.stream.synchronize()
        lane.warm = True
        return self._memory["host_output"].array(lane.output_shape, dtype).copy()

    def run_device(self, address: int, shape: Sequence[int], batch: int, size: Size) -> DeviceArray:
        """Queue a run from the caller's memory into new memory. A captured graph has other addresses in it."""
        lane = self._lane(batch, size, tuple(shape))
        result = DeviceArray(lane.output_shape, np.dtype(self.output.dtype), self.stream.handle)
        self._enqueue(lane, address, result.__cuda_array_interface__["data"][0])
        return result

    def _capture(self, lane: Lane, input_bytes: int) -> Graph | None:
        with Capture(self.stream) as capture:
            self._queue(lane, input_bytes)
        return capture.graph

    def _queue(self, lane: Lane, input_bytes: int) -> None:
        """Copies and the run, on the stream."""
        memory = self._memory
        self.stream.to_device(memory["input"].address, memory["host_input"].address, input_bytes)
        self._enqueue(lane, memory["input"].address, memory["output"].address)
        output_bytes = _bytes(lane.output_shape, np.dtype(self.output.dtype))
        self.stream.to_host(memory["host_output"].address, memory["output"].address, output_bytes)

    def _enqueue(self, lane: Lane, input_address: int, output_address: int) -> None:
        lane.context.set_tensor_address(self.input.name, input_address)
        lane.context.set_tensor_address(self.output.name, output_address)
        if not lane.context.execute_async_v3(self.stream.handle):
            raise ResourceError("TensorRT did not start the run", hint="use a smaller size or batch")

    def _lane(self, batch: int, size: Size, shape: tuple[int, ...]) -> Lane:
        """The lane of a shape, made where it is new; the one used longest ago makes room."""
        key = (batch, size)
        if key in self._lanes:
            self._lanes.move_to_end(key)
            return self._lanes[key]
        lane = self._new_lane(choose_profile(self._profiles, batch, size), shape)
        self._lanes[key] = lane
        while len(self._lanes) > self._kept:
            self.stream.synchronize()
            self._lanes.popitem(last=False)[1].close()
        return lane

    def _new_lane(self, profile: int, shape: tuple[int, ...]) -> Lane:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise ResourceError("TensorRT has no memory for one more context", hint="use fewer sizes or smaller ones")
        scratch = self._memory["scratch"]
        context.set_device_memory(scratch.address, scratch.size_bytes)
        done = context.set_optimization_profile_async(profile, self.stream.handle)
        self.stream.synchronize()
        if not (done and context.set_input_shape(self.input.name, shape)):
            raise IncompatibleError(
                f"the engine refuses {list(shape)} in its profile {self._profiles[profile]}",
                hint="the sidecar does not fit the plan: build it again",
            )
        return Lane(context, tuple(context.get_tensor_shape(self.output.name)))


def _deserialize(trt: Any, path: Path) -> tuple[Any, Any]:
    """Runtime and engine; the sidecar's hash was checked before."""
    call("cudaFree", 0)  # makes the CUDA context, or says clearly why there is none
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    try:
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
    except OSError as exc:
        raise BadFileError(f"cannot read {path}: {exc.strerror or exc}", hint="check the path") from exc
    if engine is None:
        raise IncompatibleError(
            f"{trt.__name__} {trt.__version__} cannot load {path.name} on this GPU",
            hint="build it again on this machine: dpt-deploy build MODEL.onnx",
        )
    return runtime, engine


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


def _largest(spec: TensorSpec, pixels: int) -> int:
    """Bytes of a tensor at the largest shape: batch, height and width are dynamic together, or none of them is."""
    fixed = int(np.prod([dim for dim in spec.shape if isinstance(dim, int)], dtype=np.int64))
    dynamic = any(isinstance(dim, str) for dim in spec.shape)
    return fixed * (pixels if dynamic else 1) * np.dtype(spec.dtype).itemsize


def _bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
