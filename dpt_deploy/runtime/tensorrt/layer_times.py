"""Time of each layer of an engine, as TensorRT's own profiler reports it.

A profiler belongs to a context and slows every run of it, so it gets a context of its own, which is freed afterwards.
Nothing is captured there. According to the library's documentation, an enqueue with a profiler attached ends only when
the run does, and has reported every layer by then (``enqueue_emits_profile``, on by default). Replays of a captured
graph would report nothing. TensorRT-RTX has the same interface. Experimental: run on one GPU so far.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.interruptions import DeferredInterruptions
from dpt_deploy.core.size import Size
from dpt_deploy.runtime.cuda.driver import DeviceMemory
from dpt_deploy.runtime.tensorrt.engine import OpenEngine

WARM_UP = 3  # runs before the profiler is attached: kernels are compiled, clocks are up


def layer_seconds(opened: OpenEngine, value: np.ndarray, batch: int, size: Size, runs: int) -> dict[str, float]:
    """Return the mean seconds per run of each layer by the inspector's names; empty if the library reports none.

    Raises:
        UsageError: ``runs`` is not positive.
        ResourceError: the GPU ran out of memory, or failed.
    """
    if runs < 1:
        raise UsageError(f"{runs} runs cannot be timed", hint="give 1 or more")
    stream = opened.stream
    with ExitStack() as undo:  # executed in reverse order
        recorder = _recorder(opened.trt)  # made before the lane: a context must not outlive its profiler
        lane = opened.new_lane(batch, size, value.shape)
        source, *outputs = (_held(undo, size_bytes) for size_bytes in (value.nbytes, *opened.output_bytes(lane)))
        targets = [output.address for output in outputs]
        undo.callback(stream.synchronize)
        stream.to_device(source.address, value.ctypes.data, value.nbytes)
        for _ in range(WARM_UP):
            opened.enqueue(lane, source.address, targets)
        stream.synchronize()
        lane.context.profiler = recorder
        for _ in range(runs):
            with DeferredInterruptions():  # an exception in the profiler would travel through the library
                opened.enqueue(lane, source.address, targets)
                stream.synchronize()
    return {name: seconds / runs for name, seconds in recorder.seconds.items()}


def _held(undo: ExitStack, size_bytes: int) -> DeviceMemory:
    memory = DeviceMemory(size_bytes)
    undo.callback(memory.close)
    return memory


def _recorder(trt: Any) -> Any:
    """Return a profiler that adds up the reported times, in ``seconds`` by name."""

    class Recorder(trt.IProfiler):  # type: ignore[misc]  # of a library that is chosen at run time
        def __init__(self) -> None:
            super().__init__()  # the bindings require it
            self.seconds: defaultdict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.seconds[layer_name] += ms / 1e3

    return Recorder()
