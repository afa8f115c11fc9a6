"""Stand-ins for the CUDA runtime and for TensorRT, so that a runner's own logic can be tried without a GPU.

Device memory is memory of this process, a captured graph is the list of what was queued, and the "engine" averages the
channels of its input. Nothing about a real GPU follows from a test that passes here.
"""

from __future__ import annotations

import ctypes
import json
import sys
from types import SimpleNamespace

import numpy as np

from dpt_deploy.runtime import _cuda

NAME = "fake_tensorrt"


class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that a runner calls, with a count of what is held."""

    cudaStreamNonBlocking = 1
    cudaError_t = SimpleNamespace(
        cudaSuccess=0, cudaErrorMemoryAllocation=2, cudaErrorInsufficientDriver=35, cudaErrorNoDevice=100
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, memory_bytes=1 << 40, error=0):
        self.left, self.error = memory_bytes, error
        self.held, self.streams, self.graphs = {}, set(), {}
        self.recording, self.launches, self.next_handle = None, 0, 100

    def _handle(self):
        self.next_handle += 1
        return self.next_handle

    def cudaGetErrorString(self, status):
        return 0, {2: b"out of memory", 35: b"insufficient driver"}.get(status, b"an illegal memory access")

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
            self.left += len(self.held.pop(address))
        return (0,)

    cudaFreeHost = cudaFree

    def cudaStreamCreateWithFlags(self, _flags):
        handle = self._handle()
        self.streams.add(handle)
        return 0, handle

    def cudaStreamDestroy(self, handle):
        self.streams.remove(handle)
        return (0,)

    def cudaStreamSynchronize(self, _handle):
        return (self.error,)

    def queue(self, work):
        """Do it, or record it while a capture runs."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def cudaMemcpyAsync(self, target, source, size, _kind, _stream):
        self.queue(lambda: ctypes.memmove(target, source, size))
        return (0,)

    def cudaStreamBeginCapture(self, _stream, _mode):
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, _stream):
        recorded, self.recording = self.recording, None
        return 0, recorded

    def cudaGraphInstantiate(self, recorded, _flags):
        handle = self._handle()
        self.graphs[handle] = list(recorded)
        return 0, handle

    def cudaGraphDestroy(self, _recorded):
        return (0,)

    def cudaGraphLaunch(self, handle, _stream):
        self.launches += 1
        for work in self.graphs[handle]:
            work()
        return (0,)

    def cudaGraphExecDestroy(self, handle):
        del self.graphs[handle]
        return (0,)


class Context:
    def __init__(self, engine):
        self.engine, self.addresses, self.shape, self.profile = engine, {}, None, None
        engine.contexts.append(self)

    def set_device_memory(self, address, size):
        self.scratch = (address, size)

    def set_optimization_profile_async(self, profile, _stream):
        self.profile = profile
        return True

    def set_input_shape(self, _name, shape):
        self.shape = tuple(shape)
        return self.engine.accepts(self.profile, self.shape)

    def get_tensor_shape(self, _name):
        batch, _, height, width = self.shape
        return (batch, height, width)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, _stream):
        source, target = self.addresses["pixel_values"], self.addresses["predicted_depth"]
        shape, out = self.shape, self.get_tensor_shape("")

        def work():
            pixels = view(source, shape)
            view(target, out)[...] = pixels.mean(axis=1)

        self.engine.cuda.queue(work)
        return True


class Engine:
    num_io_tensors, device_memory_size_v2 = 2, 64

    def __init__(self, cuda, profiles):
        self.cuda, self.profiles, self.contexts = cuda, profiles, []

    def get_tensor_name(self, index):
        return ("pixel_values", "predicted_depth")[index]

    def get_tensor_shape(self, name):
        return (-1, 3, -1, -1) if name == "pixel_values" else (-1, -1, -1)

    def get_tensor_dtype(self, _name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_mode(self, name):
        return "in" if name == "pixel_values" else "out"

    def accepts(self, profile, shape):
        low, high = self.profiles[profile].low, self.profiles[profile].high
        return all(a <= b <= c for a, b, c in zip(low, (shape[0], *shape[2:]), high, strict=True))

    def create_execution_context(self, _strategy):
        return Context(self)

    def create_engine_inspector(self):
        layer = {"LayerType": "gemm", "Name": "x", "Outputs": [{"Format/Datatype": "Half"}]}
        return SimpleNamespace(get_engine_information=lambda _form: json.dumps({"Layers": [layer]}))


def view(address, shape):
    count = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32).reshape(shape)


def fake_tensorrt(cuda, profiles, *, loads=True):
    """A module that stands in for ``tensorrt``; its last engine is ``module.engines[-1]``."""

    class Logger:
        ERROR = 1

        def __init__(self, _severity):
            pass

    engines = []

    class Runtime:
        def __init__(self, _logger):
            pass

        def deserialize_cuda_engine(self, _data):
            engines.append(Engine(cuda, profiles))
            return engines[-1] if loads else None

    return SimpleNamespace(
        __name__=NAME,
        __version__="11.4.0",
        Logger=Logger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=2),
        LayerInformationFormat=SimpleNamespace(JSON=1),
        engines=engines,
    )


def install(monkeypatch, profiles, *, loads=True, **options):
    """Put the stand-ins in place; returns (cuda, tensorrt)."""
    cuda = FakeCuda(**options)
    trt = fake_tensorrt(cuda, profiles, loads=loads)
    monkeypatch.setattr(_cuda, "runtime", cuda)
    monkeypatch.setitem(sys.modules, NAME, trt)
    return cuda, trt
