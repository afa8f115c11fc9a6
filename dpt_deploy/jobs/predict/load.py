"""Load a finished artefact as an object that predicts the maps of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.size import Size, check_size, parse_size
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.runtime.predictor import Prediction, Predictor
from dpt_deploy.runtime.registry import find_runtime


@runtime_checkable
class PillowImage(Protocol):
    """An image of Pillow, which need not be installed."""

    def convert(self, mode: str, /) -> Any:
        """The image in another mode, such as ``RGB``."""


class LoadedModel:
    """An open model: call it with an image. Close it with :meth:`close`, or use it in a ``with`` block.

    An image is an RGB array (H, W, 3) uint8, the path of a file, or an image of Pillow, whose pixels are taken as they
    are. Pickling keeps the path and the options; the copy opens the file again.
    """

    def __init__(self, artifact: Artifact | Path | str, **options: Any) -> None:
        given = artifact if isinstance(artifact, Artifact) else Path(artifact)
        self._options = options
        with ExitStack() as stack:
            self._predictor = stack.enter_context(opened(given, **options))
            self._stack = stack.pop_all()
        self._path = (given.path if isinstance(given, Artifact) else given).absolute()
        self._closed = False

    @property
    def path(self) -> Path:
        """The absolute path of the model."""
        return self._path

    @property
    def sidecar(self) -> Sidecar:
        """The facts of the model: precision, weights, inputs, outputs, measured errors."""
        return self._predictor.sidecar

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return self._closed

    def predict(self, image: Any) -> Prediction:
        """Predict the maps of one image, at its own height and width.

        Raises:
            UsageError: it is no image, the model cannot take its size, or the model is closed.
            BadFileError: the file cannot be read.
            MissingExtraError: a path needs the extra ``images``.
            ResourceError: out of memory.
        """
        return self._open().predict(as_pixels(image))

    __call__ = predict

    def predict_all(self, images: Iterable[Any]) -> Iterator[Prediction]:
        """Yield the prediction of each image, in order; an engine computes one while it copies another."""
        return self._open().predict_all(map(as_pixels, images))

    def prepare(self, image: Any) -> dict[str, np.ndarray]:
        """Turn an image into the network's inputs, batch 1."""
        return self._open().prepare(as_pixels(image))

    def infer(self, inputs: Mapping[str, Any]) -> Any:
        """Run the network alone (:meth:`Predictor.infer`)."""
        return self._open().infer(inputs)

    def infer_all(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the network alone and return every output by name (:meth:`Predictor.infer_all`)."""
        return self._open().infer_all(inputs)

    def finish(self, outputs: Mapping[str, np.ndarray], height: int, width: int) -> Prediction:
        """Turn the network's outputs of batch 1 into maps of ``height`` x ``width`` pixels."""
        return self._open().finish(outputs, height, width)

    def network_size(self, height: int, width: int) -> Size:
        """The size at which the network runs for an image of ``height`` x ``width`` pixels."""
        return self._predictor.network_size(height, width)

    def close(self) -> None:
        """Release the runtime; a second call does nothing."""
        self._closed = True
        self._stack.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._path, self._options)

    def __repr__(self) -> str:
        runtime = self._options.get("runtime") or default_runtime(self.sidecar)
        return f"<{type(self).__name__} {self._path.name} in {runtime}{', closed' if self._closed else ''}>"

    def _open(self) -> Predictor:
        if self._closed:
            raise UsageError(f"{self._path.name} was closed", hint="load it again")
        return self._predictor


def load(
    artifact: Artifact | Path | str,
    *,
    runtime: str | None = None,
    size: Size | tuple[int, int] | str | None = None,
    threads: int | None = None,
    device_imaging: bool = False,
    streams: int = 1,
) -> LoadedModel:
    """Open a finished artefact, or one named by its path; the result is called with images.

    It is open when this returns, and stays so until it is closed. ``runtime`` names what runs it (default: ``trt`` for
    an engine, ``openvino`` for an ``int8-openvino`` file, ``ort`` for any other). ``size`` is a fixed network size,
    height first, instead of the artefact's resize rule. ``threads`` bounds the CPU threads of one operator.
    ``device_imaging`` resizes images and maps on the GPU that runs the engine, and takes images that lie there
    (experimental: not yet run on a GPU). ``streams`` is the number of threads of yours that will predict at once: the
    processor is divided among them, which serves more images a second, each of them later.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        MissingExtraError: the runtime is not installed.
        IncompatibleError: the runtime has no kernels for the artefact's precision, or computes it wrong.
        UsageError: the runtime is unknown or cannot run the artefact, the artefact cannot take ``size``, or
            ``device_imaging`` is set for anything but an engine.
    """
    fixed = None if size is None else as_size(size)
    return LoadedModel(
        artifact, runtime=runtime, size=fixed, threads=threads, device_imaging=device_imaging, streams=streams
    )


@contextmanager
def opened(
    artifact: Artifact | Path,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    threads: int | None = None,
    device_imaging: bool = False,
    streams: int = 1,
) -> Iterator[Predictor]:
    """Open an artefact as a predictor inside the block; arguments and errors are those of :func:`load`."""
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    sidecar = artifact.sidecar
    runtime = runtime or default_runtime(sidecar)
    record = find_runtime(runtime)
    if device_imaging and not (record.device_predictor and sidecar.kind in record.runs):
        raise UsageError(
            f"{artifact.path.name} in {record.name} runs on the processor; only the GPU of an engine can resize",
            hint="leave device_imaging out, or build an engine (dpt-deploy build MODEL.onnx) and run it with trt",
        )
    if size is not None:
        check_request(sidecar, size)
    with open_runner(artifact, runtime, threads=threads, size=size, streams=streams) as runner:
        if not device_imaging:
            yield Predictor(runner, sidecar, size=size)
            return
        on_device = load_attribute(record.device_predictor, which=record.extra, purpose="resizing on the GPU")
        with on_device(runner, sidecar, size=size) as predictor:
            yield predictor


def as_pixels(image: Any) -> Any:
    """The pixels of a path or of an image of Pillow; anything else is returned as it is.

    Raises:
        BadFileError: the file cannot be read.
        MissingExtraError: the extra ``images``, which reads files, is not installed.
    """
    if isinstance(image, str | os.PathLike):
        read = load_attribute("dpt_deploy.imaging.files:read_image", which="images", purpose="reading an image file")
        return read(Path(image))
    if isinstance(image, PillowImage):
        return np.asarray(image.convert("RGB"))
    return image


def as_size(value: Size | tuple[int, int] | str) -> Size:
    """A size from ``Size``, (height, width), or text such as ``384x672``.

    Raises:
        UsageError: it is none of these, or not of positive numbers.
    """
    if isinstance(value, Size):
        return value
    if isinstance(value, str):
        return parse_size(value, stride=1)
    numbers = [side for side in value if isinstance(side, int) and not isinstance(side, bool)]
    if len(numbers) != 2 or len(value) != 2:
        raise UsageError(f"size {value!r} is not understood; expected (height, width)", hint="for example (384, 672)")
    size = Size(*numbers)
    check_size(size, stride=1)
    return size


def _reopened(path: Path, options: Mapping[str, Any]) -> LoadedModel:
    return LoadedModel(path, **options)
