"""A finished artefact as a predictor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dpt_deploy.artifact.sidecar import PLAN
from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.runtime.predictor import Predictor

if TYPE_CHECKING:
    from dpt_deploy.runtime.tensorrt.runner import TrtRunner


@contextmanager
def load(
    artifact: Artifact | Path | str,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    threads: int | None = None,
    device_imaging: bool = False,
) -> Iterator[Predictor]:
    """A predictor over a finished artefact, already open or named by its path; use it in a ``with`` block.

    ``device_imaging``: the GPU that runs an engine resizes images and maps as well, and takes images that lie there.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        MissingExtraError: the runtime is not installed.
        IncompatibleError: the runtime has no kernels for the artefact's precision.
        UsageError: ``device_imaging`` is asked of something else than an engine.
    """
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(Path(artifact))
    if device_imaging and (artifact.sidecar.kind != PLAN or runtime not in (None, "trt")):
        raise UsageError(
            f"{artifact.path.name} in {runtime or 'ort'} runs on the processor; only the GPU of an engine can resize",
            hint="leave device_imaging out, or build an engine (dpt-deploy build MODEL.onnx) and run it with trt",
        )
    if size is not None:
        check_request(artifact.sidecar, size)
    if runtime == "native":
        from dpt_deploy.runtime.native.runner import NativePredictor, NativeRunner

        with NativeRunner(artifact.path, threads=threads, size=size) as native:
            yield NativePredictor(native, artifact.sidecar, size=size)
        return
    with open_runner(artifact, runtime or default_runtime(artifact.sidecar), threads=threads) as runner:
        if not device_imaging:
            yield Predictor(runner, artifact.sidecar, size=size)
            return
        from dpt_deploy.runtime.tensorrt.predictor import DevicePredictor

        with DevicePredictor(cast("TrtRunner", runner), artifact.sidecar, size=size) as predictor:
            yield predictor
