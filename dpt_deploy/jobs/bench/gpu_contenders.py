"""What can be timed on a GPU: an engine, and the PyTorch module in the engine's precision.

Each comes twice: from host to host, as a caller without arrays on the device sees it, and (``-device``) between arrays
that lie there, which is the network alone. Not run on a GPU yet: tried over stand-ins and, for PyTorch, on a CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.jobs.common.inputs import model_feed, reference_input
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.registry import find_runtime

CUDA = "cuda"
_COMPILED = "max-autotune"
FRAME = (1080, 1920)
BURST = 32  # frames: the first has nothing to overlap with, nor has the end of the last


def check_device() -> None:
    """Raise :class:`IncompatibleError` unless PyTorch finds a GPU."""
    with extra("export", purpose="timing PyTorch on a GPU"):
        import torch
    if not torch.cuda.is_available():
        raise IncompatibleError(
            f"PyTorch {torch.__version__} finds no NVIDIA GPU",
            hint="leave --device out to time on the processor; see `dpt-deploy doctor`",
        )


@contextmanager
def engine(artifact: Artifact, _file: Any, images: np.ndarray) -> Iterator[TimedCall]:
    """The engine from host to host."""
    feed = model_feed(artifact.sidecar, images)
    with open_runner(artifact, "trt") as runner:
        yield TimedCall(lambda: runner.infer(feed), runner.synchronize)


@contextmanager
def engine_on_device(artifact: Artifact, _file: Any, images: np.ndarray) -> Iterator[TimedCall]:
    """The engine between two arrays of the device, made by itself: no other library is needed."""
    with _between_arrays(artifact, images) as (runner, feed, out):
        yield TimedCall(lambda: runner.infer_device(feed, out=out), runner.synchronize)


@contextmanager
def bare_engine(artifact: Artifact, _file: Any, images: np.ndarray) -> Iterator[TimedCall]:
    """The same without the runner: what it costs is the difference."""
    with _between_arrays(artifact, images) as (runner, feed, out):
        yield TimedCall(runner.bare_call(feed, out), runner.synchronize)


def frames(*, overlap: bool) -> Callable[[Artifact, Any, np.ndarray], Any]:  # a context manager of a contender
    """How full HD frames go through an engine, from host to host and resized on the GPU: one at a time, in its parts
    too, or a burst of them one after another, whose copies overlap with runs."""

    @contextmanager
    def enter(artifact: Artifact, _file: Any, images: np.ndarray) -> Iterator[TimedCall]:
        from dpt_deploy.runtime.tensorrt.predictor import DevicePredictor

        frame = structured_images(1, *FRAME)[0]
        runner: Any = open_runner(artifact, "trt")
        with runner, DevicePredictor(runner, artifact.sidecar, size=Size(*images.shape[1:3])) as predictor:
            if overlap:

                def burst() -> None:
                    for _ in predictor.predict_all(repeat(frame, BURST)):
                        pass

                yield TimedCall(burst, predictor.synchronize, times=BURST)
            else:
                parts = predictor.stages(frame)
                yield TimedCall(lambda: predictor.predict(frame), predictor.synchronize, parts=parts)

    return enter


@contextmanager
def _between_arrays(artifact: Artifact, images: np.ndarray) -> Iterator[tuple[Any, dict[str, Any], Any]]:
    """A runner, its input on the device, and an array for its output."""
    (name, value), *_ = model_feed(artifact.sidecar, images).items()
    runner: Any = open_runner(artifact, "trt")
    with runner:
        feed = {name: runner.to_device(value)}
        yield runner, feed, runner.infer_device(feed)[artifact.sidecar.outputs[0].name]


def torch_contender(
    *, compiled: bool, on_device: bool
) -> Callable[[Artifact, Any, np.ndarray], Any]:  # a context manager of a contender
    """How PyTorch is entered on the GPU: eager or compiled, from host to host or on the device."""

    @contextmanager
    def enter(artifact: Artifact, module: Any, images: np.ndarray) -> Iterator[TimedCall]:
        import torch

        dtype = getattr(torch, find_precision(artifact.sidecar.precision).torch_type)
        moved = copy.deepcopy(module).to(CUDA, dtype)  # the module itself is others' reference
        called = torch.compile(moved, mode=_COMPILED) if compiled else moved
        feed = reference_input(artifact.sidecar, images)[INPUT_FLOAT]
        run = _device_call(called, feed, dtype) if on_device else _host_call(artifact, moved, called, feed)
        yield TimedCall(run, torch.cuda.synchronize)
        if compiled:
            torch.compiler.reset()

    return enter


def _device_call(module: Any, feed: np.ndarray, dtype: Any) -> Callable[[], Any]:
    import torch

    given = torch.from_numpy(feed).to(CUDA, dtype)

    def run() -> Any:
        with torch.inference_mode():
            return module(given)

    return run


def _host_call(artifact: Artifact, moved: Any, called: Any, feed: np.ndarray) -> Callable[[], Any]:
    sidecar = artifact.sidecar
    runner = find_runtime("torch").load()(moved, sidecar.inputs, sidecar.outputs, call=called)
    name = sidecar.inputs[0].name
    return lambda: runner.infer({name: feed})
