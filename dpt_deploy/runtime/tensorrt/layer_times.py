"""How long each layer of an engine takes, as TensorRT's own profiler reports it.

A profiler belongs to a context, and slows every run of it: it stands on a context of its own, which is gone afterwards.
Nothing is captured there. As the library documents it, an enqueue with a profiler attached ends only when the run does,
and has reported every layer by then (``enqueue_emits_profile``, which is on unless somebody turns it off); replays of a
captured graph would report nothing by themselves. TensorRT-RTX has the same interface. Not run on a GPU yet.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.runtime.cuda.driver import DeviceMemory
from dpt_deploy.runtime.tensorrt.engine import OpenEngine

WARM_UP = 3  # runs before the profiler stands there: kernels are compiled, clocks are up


def layer_seconds(opened: OpenEngine, value: np.ndarray, batch: int, size: Size, runs: int) -> dict[str, float]:
    """Mean seconds per run of every layer that the library reports, by the inspector's names; empty if it reports none.

    Raises:
        UsageError: not one run is asked for.
        ResourceError: the GPU ran out of memory, or failed.
    """
    if runs < 1:
        raise UsageError(f"{runs} runs tell no time", hint="give 1 or more")
    stream = opened.stream
    with ExitStack() as undo:  # the last one named is the first one done
        recorder = _recorder(opened.trt)  # named before the lane: a context must not outlive its profiler
        lane = opened.new_lane(batch, size, value.shape)
        output_bytes = int(np.prod(lane.output_shape, dtype=np.int64)) * np.dtype(opened.output.dtype).itemsize
        source, target = (_held(undo, size_bytes) for size_bytes in (value.nbytes, output_bytes))
        undo.callback(stream.synchronize)
        stream.to_device(source.address, value.ctypes.data, value.nbytes)
        for _ in range(WARM_UP):
            opened.enqueue(lane, source.address, target.address)
        stream.synchronize()
        lane.context.profiler = recorder
        for _ in range(runs):
            opened.enqueue(lane, source.address, target.address)
            stream.synchronize()
    return {name: seconds / runs for name, seconds in recorder.seconds.items()}


def _held(undo: ExitStack, size_bytes: int) -> DeviceMemory:
    memory = DeviceMemory(size_bytes)
    undo.callback(memory.close)
    return memory


def _recorder(trt: Any) -> Any:
    """A profiler that adds up what is reported to it, in ``seconds`` by name."""

    class Recorder(trt.IProfiler):  # type: ignore[misc]  # of a library that is chosen at run time
        def __init__(self) -> None:
            super().__init__()  # the bindings refuse an object whose base was not made
            self.seconds: defaultdict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.seconds[layer_name] += ms / 1e3

    return Recorder()
