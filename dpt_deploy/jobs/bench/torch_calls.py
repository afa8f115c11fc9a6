"""Timed calls of PyTorch, on the CPU and on a GPU (experimental: run on one GPU so far). Needs PyTorch."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.jobs.common.inputs import reference_input
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import SETTLE_SECONDS, TimedCall
from dpt_deploy.runtime.registry import find_runtime

with extra("export", purpose="timing PyTorch"):
    import torch

CUDA = "cuda"
_GPU_MODE = "max-autotune"  # of torch.compile


def check_device() -> None:
    """Raise :class:`IncompatibleError` unless PyTorch finds a GPU."""
    if not torch.cuda.is_available():
        raise IncompatibleError(
            f"PyTorch {torch.__version__} finds no NVIDIA GPU",
            hint="leave --device out to time on the processor; see `dpt-deploy doctor`",
        )


@contextmanager
def torch_call(
    artifact: Artifact, module: torch.nn.Module, images: np.ndarray, *, device: str, compiled: bool, on_device: bool
) -> Iterator[TimedCall]:
    """Hold a module ready over ``images``, (B, H, W, 3) bytes.

    On a GPU it computes in the type of the artefact, from host to host or between arrays on the device.
    """
    inputs = reference_input(artifact.sidecar, images)[INPUT_FLOAT]
    if device == "cpu":
        with _host_runner(artifact, torch.compile(module) if compiled else module) as runner:
            name = artifact.sidecar.inputs[0].name
            yield TimedCall(
                lambda: runner.infer({name: inputs}),
                runner.synchronize,
                _libraries(),
                settings={
                    "threads": str(torch.get_num_threads()),
                    "spinning": f"{SETTLE_SECONDS} s of pause for it",
                },
                pause=SETTLE_SECONDS,
            )
    else:
        dtype = getattr(torch, find_precision(artifact.sidecar.precision).torch_type)
        moved = copy.deepcopy(module).to(CUDA, dtype)  # the module itself is the reference of others
        called = torch.compile(moved, mode=_GPU_MODE) if compiled else moved
        run = _device_call(called, inputs, dtype) if on_device else _host_call(artifact, moved, called, inputs)
        yield TimedCall(run, torch.cuda.synchronize)
    if compiled:
        torch.compiler.reset()


def _libraries(built: str = "") -> str:
    """Libraries of matrix products that PyTorch was built with, for example ``BLAS: mkl, oneDNN v3.12.0``.

    On a processor that the BLAS was not written for, its products may take several times as long.
    """
    built = built or torch.__config__.show()
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    onednn = re.search(r"(?:MKL-DNN|oneDNN) (v[\d.]+)", built)
    return ", ".join([f"BLAS: {blas[1] if blas else 'unknown'}", *([f"oneDNN {onednn[1]}"] if onednn else [])])


def product() -> TimedCall:
    """Return the matrix product of the ceiling on the CPU."""
    left, right = map(torch.from_numpy, ceiling.matrices())
    return TimedCall(lambda: left @ right, lambda: None)


def product_on_gpu(dtype: str) -> TimedCall:
    """Return the matrix product of the ceiling on a GPU, in ``dtype``."""
    generator = torch.Generator(CUDA).manual_seed(0)
    shape, kind = (ceiling.DEVICE_SIDE, ceiling.DEVICE_SIDE), getattr(torch, dtype)
    left, right = (torch.randn(shape, generator=generator, device=CUDA).to(kind) for _ in range(2))
    return TimedCall(lambda: left @ right, torch.cuda.synchronize)


def _host_runner(artifact: Artifact, module: Any, call: Callable[..., Any] | None = None) -> Any:
    sidecar = artifact.sidecar
    return find_runtime("torch").load()(module, sidecar.inputs, sidecar.outputs, call=call)


def _device_call(module: Callable[..., Any], inputs: np.ndarray, dtype: torch.dtype) -> Callable[[], Any]:
    given = torch.from_numpy(inputs).to(CUDA, dtype)

    def run() -> Any:
        with torch.inference_mode():
            return module(given)

    return run


def _host_call(
    artifact: Artifact, moved: torch.nn.Module, called: Callable[..., Any], inputs: np.ndarray
) -> Callable[[], Any]:
    runner = _host_runner(artifact, moved, called)
    name = artifact.sidecar.inputs[0].name
    return lambda: runner.infer({name: inputs})
