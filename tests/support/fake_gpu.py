"""Fakes of the CUDA runtime and of TensorRT, to test a runner's own logic without a GPU.

Device memory is memory of this process, and the "engine" averages the channels of its input. What is queued on a stream
is done when somebody waits for it, and not before: work that does not wait for what it needs finds nothing there. Time
is a number that work adds to (``FakeCuda.seconds``), by what ``Costs`` say.
Nothing about a real GPU follows from a test that passes here.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
from support.fake_inspector import Inspector, layer

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.profile import parse_ranges
from dpt_deploy.engine.profiles import lay_out_profiles
from dpt_deploy.jobs.build import build
from dpt_deploy.jobs.build import request as engine_request
from dpt_deploy.jobs.common import targets
from dpt_deploy.runtime.cuda import arrays as _device_arrays
from dpt_deploy.runtime.cuda import driver as _cuda
from dpt_deploy.runtime.tensorrt.runner import TrtRunner

NAME = "fake_tensorrt"
HOST_CODE = b"with host code"  # how a plan begins that brings some


@dataclass
class Costs:
    """Seconds of the fake's clock: of a run, by profile; more for a context's first; more after another profile."""

    run: Callable = lambda _profile: 0.0
    first: float = 0.0
    switch: float = 0.0


class Mark:
    """An event recorded on a stream: reached when the stream has come so far."""

    def __init__(self, stream):
        self.stream, self.reached = stream, False


class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that a runner calls, with a count of what is held."""

    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaError_t = SimpleNamespace(
        cudaSuccess=0,
        cudaErrorInvalidValue=1,
        cudaErrorMemoryAllocation=2,
        cudaErrorInsufficientDriver=35,
        cudaErrorNoDevice=100,
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory_bytes=1 << 40, error=0):
        self.left, self.error = memory_bytes, error
        self.held, self.streams, self.graphs, self.events = {}, set(), {}, {}
        self.queues, self.lock = {}, threading.RLock()
        self.recording, self.launches, self.next_handle = None, 0, 100
        self.device, self.switches = 0, []  # current of every thread; the real one keeps one a thread
        self.seconds = 0.0

    def clock(self):
        return self.seconds

    def _handle(self):
        self.next_handle += 1
        return self.next_handle

    def cudaGetErrorString(self, status):
        return 0, {1: b"invalid argument", 2: b"out of memory", 35: b"insufficient driver"}.get(
            status, b"an illegal memory access"
        )

    # devices

    def cudaGetDevice(self):
        return 0, self.device

    def cudaSetDevice(self, device):
        self.device = device
        self.switches.append(device)
        return (0,)

    # memory

    def cudaMalloc(self, size):
        if size > self.left:
            return (2, None)
        self.left -= size
        buffer = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address):
        if self.error:
            return (self.error,)
        if address:
            for stream in list(self.queues):
                self.drain(stream)  # as the real one does
            self.left += len(self.held.pop(address))
        return (0,)

    cudaFreeHost = cudaFree

    # streams and events

    def cudaStreamCreateWithFlags(self, _flags):
        handle = self._handle()
        self.streams.add(handle)
        return 0, handle

    def cudaStreamDestroy(self, handle):
        self.streams.remove(handle)
        return (0,)

    def cudaStreamSynchronize(self, handle):
        if not self.error:
            self.drain(handle)
        return (self.error,)

    def cudaEventCreateWithFlags(self, _flags):
        handle = self._handle()
        self.events[handle] = None
        return 0, handle

    def cudaEventRecord(self, handle, stream):
        self.events[handle] = Mark(stream)
        self.queue(stream, self.events[handle])
        return (0,)

    def cudaStreamWaitEvent(self, stream, handle, _flags):
        if (mark := self.events[handle]) is not None:
            self.queue(stream, lambda: self.reach(mark))
        return (0,)

    def cudaEventSynchronize(self, handle):
        if not self.error and (mark := self.events[handle]) is not None:
            self.reach(mark)
        return (self.error,)

    def cudaEventDestroy(self, handle):
        del self.events[handle]
        return (0,)

    def queue(self, stream, work):
        """Keep it for later, or record it while a capture runs."""
        with self.lock:
            if self.recording is not None and self.recording[0] == stream:
                self.recording[1].append(work)
            else:
                self.queues.setdefault(stream, deque()).append(work)

    def drain(self, stream):
        with self.lock:
            queue = self.queues.get(stream, deque())
            while queue:
                self._do(queue.popleft())

    def reach(self, mark):
        with self.lock:
            while not mark.reached:
                self._do(self.queues[mark.stream].popleft())

    def _do(self, work):
        if isinstance(work, Mark):
            work.reached = True
        else:
            work()

    def cudaMemcpyAsync(self, target, source, size, _kind, stream):
        if any(size > len(self.held[end]) for end in (target, source) if end in self.held):
            return (self.cudaError_t.cudaErrorInvalidValue,)
        self.queue(stream, lambda: ctypes.memmove(target, source, size))
        return (0,)

    # graphs

    def cudaStreamBeginCapture(self, stream, _mode):
        self.recording = (stream, [])
        return (0,)

    def cudaStreamEndCapture(self, _stream):
        (_, recorded), self.recording = self.recording, None
        return 0, recorded

    def cudaGraphInstantiate(self, recorded, _flags):
        handle = self._handle()
        self.graphs[handle] = list(recorded)
        return 0, handle

    def cudaGraphDestroy(self, _recorded):
        return (0,)

    def cudaGraphLaunch(self, handle, stream):
        self.launches += 1
        for work in self.graphs[handle]:
            self.queue(stream, work)
        return (0,)

    def cudaGraphExecDestroy(self, handle):
        del self.graphs[handle]
        return (0,)


class Context:
    def __init__(self, engine, how):
        self.engine, self.addresses, self.shape, self.profile, self.how = engine, {}, None, None, how
        self.profiler, self.enqueue_emits_profile, self.ran = None, True, False
        engine.contexts.append(self)
        engine.alive.add(self)

    def set_device_memory(self, address, size):
        self.scratch = (address, size)

    def set_optimization_profile_async(self, profile, _stream):
        self.profile = profile
        return True

    def set_input_shape(self, _name, shape):
        self.shape = tuple(shape)
        return self.engine.accepts(self.profile, self.shape)

    def get_tensor_shape(self, name):
        batch, _, height, width = self.shape
        return (batch, *ENDS[name], height, width)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, _stream):
        return self.engine.capturable

    def execute_async_v3(self, stream):
        addresses, shape, scratch = dict(self.addresses), self.shape, self.scratch[0]
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.outputs}

        def work():
            pixels = view(addresses["pixel_values"], shape)
            for name, out in shapes.items():
                view(addresses[name], out)[...] = computed(name, pixels)
            view(scratch, (1,))[...] += 1  # what all contexts share: two at a time would spoil it
            self.engine.spend(self)

        cuda = self.engine.cuda
        cuda.queue(stream, work)
        if self.profiler is not None and self.enqueue_emits_profile and cuda.recording is None:
            cuda.drain(stream)
            for name, seconds in self.engine.reported:
                self.profiler.report_layer_time(name, 1e3 * seconds)
        return self.engine.starts


class Engine:
    device_memory_size_v2 = 64
    starts, capturable, contexts_left = True, True, 1 << 30
    first_profile_only = False  # as TensorRT-RTX 1.6: outputs have the shape of the first profile, if it is one shape

    def __init__(self, cuda, profiles, costs, layers, reported, outputs):
        self.cuda, self.profiles, self.contexts, self.alive = cuda, profiles, [], weakref.WeakSet()
        self.outputs, self.num_io_tensors = outputs, 1 + len(outputs)
        self.costs, self.layers, self.reported, self.last = costs, layers, reported, None

    def spend(self, context):
        """Let the clock go on by what this run costs."""
        other = self.last not in (None, context.profile)
        took = self.costs.run(self.profiles[context.profile])
        self.cuda.seconds += took + self.costs.switch * other + self.costs.first * (not context.ran)
        self.last, context.ran = context.profile, True

    def get_tensor_name(self, index):
        return ("pixel_values", *self.outputs)[index]

    def get_tensor_shape(self, name):
        if self.first_profile_only and name != "pixel_values":
            batch, *size = self.profiles[0].best
            return (batch, *ENDS[name], *size)
        return (-1, *ENDS[name], -1, -1)

    def get_tensor_dtype(self, _name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_mode(self, name):
        return "in" if name == "pixel_values" else "out"

    def accepts(self, profile, shape):
        low, high = self.profiles[profile].low, self.profiles[profile].high
        return all(a <= b <= c for a, b, c in zip(low, (shape[0], *shape[2:]), high, strict=True))

    def create_runtime_config(self):
        def allocate(strategy):
            config.allocation = strategy

        def share(cache):
            config.cache = cache
            return True

        config = SimpleNamespace(set_execution_context_allocation_strategy=allocate)
        config.create_runtime_cache, config.set_runtime_cache = object, share
        return config

    def create_execution_context(self, how):
        self.contexts_left -= 1
        return Context(self, how) if self.contexts_left >= 0 else None

    def create_engine_inspector(self):
        return Inspector(self.layers)


def view(address, shape):
    count = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).reshape(shape)


class FakeView:
    """The facts that ``StridedMemoryView`` reports of an array; the real one asks the driver about every pointer."""

    def __init__(self, interface, stream_ptr=None):
        self.ptr, self.shape = interface["data"][0], tuple(interface["shape"])
        self.dtype, self.device_id, self.asked = np.dtype(interface["typestr"]), interface.get("device", 0), stream_ptr
        strides = interface.get("strides")
        self.strides = None if strides is None else tuple(step // self.dtype.itemsize for step in strides)
        self._values = view(self.ptr, self.shape) if self.dtype == np.float32 else None

    @classmethod
    def from_cuda_array_interface(cls, array, stream_ptr):
        return cls(array.__cuda_array_interface__, stream_ptr)

    @classmethod
    def from_any_interface(cls, array, stream_ptr):
        if hasattr(array, "__dlpack_device__"):
            return cls(np.from_dlpack(array.__dlpack__(stream=stream_ptr)).__array_interface__, stream_ptr)
        return cls.from_cuda_array_interface(array, stream_ptr)

    def __dlpack__(self, **_options):
        return self._values.__dlpack__()  # a capsule of the host's: its reader is NumPy


def fake_tensorrt(cuda, profiles, *, loads=True, rtx=False):
    """A fake of ``tensorrt`` or, with its own runtime options, of ``tensorrt_rtx``.

    Its last engine is ``module.engines[-1]``; ``profiles`` are those of any plan, or a function of the plan's bytes.
    What an engine costs, lists, reports and returns is set in ``module.costs``, ``layers``, ``reported`` and
    ``outputs`` before it is opened.
    """

    class Logger:
        ERROR = 1

        def __init__(self, _severity):
            pass

    engines = []

    class Runtime:
        def __init__(self, _logger):
            pass

        engine_host_code_allowed = False

        def deserialize_cuda_engine(self, data):
            if data.startswith(HOST_CODE) and not self.engine_host_code_allowed:
                return None
            planned = profiles(data) if callable(profiles) else profiles
            engines.append(Engine(cuda, planned, module.costs, module.layers, module.reported, module.outputs))
            return engines[-1] if loads else None

    class IProfiler:
        def __init__(self):
            self.made = True

        def report_layer_time(self, layer_name, ms):
            raise NotImplementedError  # as the real one, which is abstract

    module = SimpleNamespace(
        __name__=NAME,
        __version__="11.4.0",
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=2),
        LayerInformationFormat=SimpleNamespace(JSON=1),
        IProfiler=IProfiler,
        engines=engines,
        costs=Costs(),
        layers=[layer("gemm", "x", "Half")],
        reported=[],
        outputs=("predicted_depth",),
    )
    if rtx:
        module.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY=0, EAGER=1)
    return module


@contextmanager
def freed_at_the_end():
    """Free what a test leaves in tracebacks while its fakes are installed.

    What is older than the test is not searched: late in a run, a complete search takes seconds.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def install(monkeypatch, profiles, *, loads=True, rtx=False, **options):
    """Put the fakes in place; returns (cuda, tensorrt)."""
    cuda = FakeCuda(**options)
    trt = fake_tensorrt(cuda, profiles, loads=loads, rtx=rtx)
    monkeypatch.setattr(_cuda, "runtime", cuda)
    monkeypatch.setattr(_device_arrays, "StridedMemoryView", FakeView)
    monkeypatch.setitem(sys.modules, NAME, trt)
    return cuda, trt


def install_for(monkeypatch, record, profiles=None):
    """Install the fakes under the name of the library that really built an engine, on a GPU that runs it."""
    cuda, trt = install(monkeypatch, profiles or record.profiles, rtx=True)
    trt.__version__ = record.version
    monkeypatch.setitem(sys.modules, record.library, trt)
    monkeypatch.setattr(targets, "gpu_devices", lambda: [GPU])
    monkeypatch.setattr(targets, "free_device_memory", lambda: None)
    return cuda, trt


def install_over_builder(monkeypatch, library, profiles):
    """The real library with its builder, whose run time is the fake's: engines are built, and "run" on a GPU."""
    real = import_module(library)
    cuda, trt = install(monkeypatch, profiles, rtx=True)
    made = SimpleNamespace(**{**vars(real), **vars(trt), "__name__": library, "__version__": real.__version__})
    made.Logger, made.IProfiler = real.Logger, real.IProfiler
    trt.costs = made.costs
    monkeypatch.setitem(sys.modules, library, made)
    for module in (targets, engine_request):
        monkeypatch.setattr(module, "gpu_devices", lambda: [GPU])
    for module in (targets, build):
        monkeypatch.setattr(module, "free_device_memory", lambda: None)
    return cuda, trt


GPU = Gpu("Fake", "8.9", "580.1", 1 << 34)
PROFILES = lay_out_profiles(parse_ranges("64,64x96"), 3)
SHAPES = [(1, 64, 64), (3, 64, 64), (2, 64, 96), (1, 64, 96)]


def mean(pixels):
    """Output of the fake's engine."""
    return pixels.mean(axis=1)


compute = mean  # a test may put something worse here
ENDS = {"pixel_values": (3,), "predicted_depth": (), "logits": (2,)}  # sizes between batch and height


def computed(name, pixels):
    """Output ``name`` of the fake's engine: the mean, or the first two channels as scores."""
    return compute(pixels) if name == "predicted_depth" else pixels[:, :2]


def runner_factory(monkeypatch, folder):
    """A function that makes a runner over fakes, and returns both."""

    def made(kept_shapes=8, stream=None, profiles=PROFILES, host_code=False, **options):
        cuda, trt = install(monkeypatch, profiles, **options)
        path = folder / "x.plan"
        path.write_bytes(b"plan")
        how = {"kept_shapes": kept_shapes, "stream": stream, "host_code": host_code}
        return TrtRunner(path, library=NAME, profiles=PROFILES, **how), cuda, trt

    return made


def engine_record(**changes):
    """Record of an engine that has the profiles of the fake."""
    audit = AuditRecord("network", {}, {}, {})
    return replace(EngineRecord(NAME, "1", None, PROFILES, EngineOptions(), 0, 0, 0.0, audit), **changes)
