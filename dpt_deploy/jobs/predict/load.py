"""Load a finished artefact as a predictor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.runtime.predictor import Predictor
from dpt_deploy.runtime.registry import find_runtime


@contextmanager
def load(
    artifact: Artifact | Path | str,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    threads: int | None = None,
    device_imaging: bool = False,
    streams: int = 1,
) -> Iterator[Predictor]:
    """Open a finished artefact, or one named by its path, as a predictor; use it in a ``with`` block.

    ``runtime`` names what runs it (default: ``trt`` for an engine, ``ort`` for an ONNX file). ``size`` is a fixed
    network size instead of the artefact's resize rule. ``threads`` bounds the CPU threads of one operator.
    ``device_imaging`` resizes images and maps on the GPU that runs the engine, and takes images that lie there
    (experimental: not yet run on a GPU). ``streams`` is the number of threads of yours that will predict at once: the
    processor is divided among them, which serves more images a second, each of them later.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        MissingExtraError: the runtime is not installed.
        IncompatibleError: the runtime has no kernels for the artefact's precision.
        UsageError: the runtime is unknown or cannot run the artefact, the artefact cannot take ``size``, or
            ``device_imaging`` is set for anything but an engine.
    """
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(Path(artifact))
    sidecar = artifact.sidecar
    record = find_runtime(runtime or default_runtime(sidecar))
    if device_imaging and not (record.device_predictor and sidecar.kind in record.runs):
        raise UsageError(
            f"{artifact.path.name} in {record.name} runs on the processor; only the GPU of an engine can resize",
            hint="leave device_imaging out, or build an engine (dpt-deploy build MODEL.onnx) and run it with trt",
        )
    if size is not None:
        check_request(sidecar, size)
    with open_runner(artifact, record.name, threads=threads, size=size, streams=streams) as runner:
        if not device_imaging:
            yield Predictor(runner, sidecar, size=size)
            return
        on_device = load_attribute(record.device_predictor, which=record.extra, purpose="resizing on the GPU")
        with on_device(runner, sidecar, size=size) as predictor:
            yield predictor
