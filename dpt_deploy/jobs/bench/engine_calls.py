"""Timed calls of an engine on its GPU. Experimental: not yet run on a GPU, only with fakes of CUDA and TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench.data_path import BURST, FRAME, DataPath
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import TimedCall
from dpt_deploy.runtime.tensorrt.predictor import DevicePredictor


@contextmanager
def engine_call(artifact: Artifact, images: np.ndarray, path: DataPath) -> Iterator[TimedCall]:
    """Hold an engine ready over ``images``, (B, H, W, 3) bytes; ``path`` is the way of the data."""
    runner: Any = open_runner(artifact, default_runtime(artifact.sidecar))
    with runner:
        if path in ("frame", "frames"):
            size = Size(*images.shape[1:3])
            with DevicePredictor(runner, artifact.sidecar, size=size) as predictor:
                yield _frame_call(predictor, overlap=path == "frames")
        elif path == "host":
            inputs = model_inputs(artifact.sidecar, images)
            yield TimedCall(lambda: runner.infer(inputs), runner.synchronize)
        else:
            yield _device_call(runner, artifact, images, bare=path == "enqueue")


def _device_call(runner: Any, artifact: Artifact, images: np.ndarray, *, bare: bool) -> TimedCall:
    """Return a run between arrays on the device; ``bare`` leaves out the runner, whose cost is the difference."""
    (name, value), *_ = model_inputs(artifact.sidecar, images).items()
    inputs = {name: runner.to_device(value)}
    out = runner.infer_device(inputs)
    if bare:
        return TimedCall(runner.bare_call(inputs, out), runner.synchronize)
    return TimedCall(lambda: runner.infer_device(inputs, out=out), runner.synchronize)


def _frame_call(predictor: DevicePredictor, *, overlap: bool) -> TimedCall:
    """Return the prediction of one full HD frame with its parts, or of a burst of frames whose copies overlap."""
    frame = structured_images(1, *FRAME)[0]
    if not overlap:
        return TimedCall(lambda: predictor.predict(frame), predictor.synchronize, parts=predictor.stages(frame))

    def burst() -> None:
        for _ in predictor.predict_all(repeat(frame, BURST)):
            pass

    return TimedCall(burst, predictor.synchronize, times=BURST)
