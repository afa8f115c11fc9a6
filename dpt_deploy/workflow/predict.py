"""From files to files: images, folders and videos through an artefact; and :func:`load` for use from Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from dpt_deploy.core import imaging
from dpt_deploy.core.artifact import PLAN, Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, DptError, ParityError, UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.spec import Size
from dpt_deploy.runtime.predictor import Prediction, Predictor
from dpt_deploy.workflow.feeds import check_request
from dpt_deploy.workflow.runners import default_runtime, open_runner

if TYPE_CHECKING:
    from dpt_deploy.runtime.trt_runner import TrtRunner

OutputFormat = Literal["png", "pfm", "color", "metric", "labels", "overlay"]
DEPTH_FORMATS = ("png", "pfm", "color", "metric")
SEGMENTATION_FORMATS = ("labels", "overlay")


@dataclass(frozen=True)
class FileResult:
    """What became of one input file: the files written, or the reason why none was."""

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""
    frames: int = 0


@contextmanager
def load(
    path: Path | str,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    threads: int | None = None,
    device_imaging: bool = False,
) -> Iterator[Predictor]:
    """A predictor over a finished artefact; use it in a ``with`` block.

    ``device_imaging``: the GPU that runs an engine resizes images and maps as well, and takes images that lie there.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        MissingExtraError: the runtime is not installed.
        IncompatibleError: the runtime has no kernels for the artefact's precision.
        UsageError: ``device_imaging`` is asked of something else than an engine.
    """
    artifact = open_artifact(Path(path))
    if device_imaging and (artifact.sidecar.kind != PLAN or runtime not in (None, "trt")):
        raise UsageError(
            f"{artifact.path.name} in {runtime or 'ort'} runs on the processor; only the GPU of an engine can resize",
            hint="leave device_imaging out, or build an engine (dpt-deploy build MODEL.onnx) and run it with trt",
        )
    if size is not None:
        check_request(artifact.sidecar, size)
    if runtime == "native":
        from dpt_deploy.runtime.native_runner import NativePredictor, NativeRunner

        with NativeRunner(artifact.path, threads=threads, size=size) as native:
            yield NativePredictor(native, artifact.sidecar, size=size)
        return
    with open_runner(artifact.path, runtime or default_runtime(artifact.sidecar), threads=threads) as runner:
        if not device_imaging:
            yield Predictor(runner, artifact.sidecar, size=size)
            return
        from dpt_deploy.runtime.device_predictor import DevicePredictor

        with DevicePredictor(cast("TrtRunner", runner), artifact.sidecar, size=size) as predictor:
            yield predictor


def run_files(
    path: Path,
    source: Path,
    out: Path | None,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    formats: tuple[str, ...] = (),
    kitti_crop: bool = False,
    device_imaging: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    started: Callable[[int], None] = lambda _count: None,
    advance: Callable[[FileResult], None] = lambda _result: None,
) -> list[FileResult]:
    """Run an artefact over an image, a video, or every image of a folder, and write the results.

    ``out`` is a file (its suffix chooses the format) for a single image or video, else a folder. A folder continues
    past a file that cannot be read and reports it.

    Raises:
        BadFileError: the source is missing, holds no image, or (for a single file) cannot be read.
        UsageError: a format that the model does not have, or an output that would overwrite an input.
        ResourceError: the output cannot be written.
    """
    with extra("images", purpose="reading and writing images"):
        from dpt_deploy.core import images
    artifact = open_artifact(path)
    sources = _sources(source, images.IMAGE_SUFFIXES)
    video = not source.is_dir() and source.suffix.lower() in images.VIDEO_SUFFIXES
    file = out if out is not None and out.suffix and not source.is_dir() and not out.is_dir() else None
    chosen = _formats(artifact, formats, file, video=video)
    targets = _targets(sources, source, out, file, chosen)
    check_folder(next(iter(targets[0].values())).parent)
    if artifact.sidecar.weights.is_random:
        say(f"weights: {artifact.sidecar.weights}")
    started(len(sources))
    results = []
    with load(path, runtime=runtime, size=size, device_imaging=device_imaging) as predictor:
        writer = _Writer(predictor, artifact, kitti_crop)
        run = writer.video if video else writer.image
        for item, target in zip(sources, targets, strict=True):
            results.append(_one(run, item, target, single=not source.is_dir()))
            advance(results[-1])
    return results


def _one(
    run: Callable[[Path, dict[str, Path]], FileResult], item: Path, target: dict[str, Path], *, single: bool
) -> FileResult:
    try:
        return run(item, target)
    except (BadFileError, UsageError, ParityError) as exc:  # of this file; a full disk would meet every other as well
        if single:
            raise
        return FileResult(item, error=str(exc) if item.name in str(exc) else f"{item}: {exc}")


def _sources(source: Path, suffixes: frozenset[str]) -> list[Path]:
    if not source.exists():
        raise BadFileError(f"{source} does not exist", hint="give an image, a video, or a folder of images")
    if not source.is_dir():
        return [source]
    found = sorted(entry for entry in source.iterdir() if entry.suffix.lower() in suffixes)
    found = [entry for entry in found if not entry.name.startswith(".") and not entry.is_dir()]
    if not found:
        raise BadFileError(f"folder {source} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
    return found


def _formats(artifact: Artifact, formats: tuple[str, ...], file: Path | None, *, video: bool) -> tuple[str, ...]:
    model = artifact.sidecar.model
    allowed: tuple[str, ...] = DEPTH_FORMATS if model.task == "depth" else SEGMENTATION_FORMATS
    if video:
        allowed = ("color",) if model.task == "depth" else ("overlay",)
    for name in formats:
        if name not in allowed:
            what = f"a video of a {model.task} model" if video else f"a {model.task} model"
            raise UsageError(f"format {name!r} does not fit {what}", hint=f"choose from {', '.join(allowed)}")
        if name == "metric" and model.metric is None:
            raise UsageError("format 'metric' needs a model that returns metres", hint="use hybrid-kitti or hybrid-nyu")
    if video:
        return ("video",)
    if formats:
        return tuple(dict.fromkeys(formats))
    if model.task == "segmentation":
        return ("labels",)
    if file is None:
        return ("png", "pfm")
    return ("pfm",) if file.suffix.lower() == ".pfm" else ("png",)


def _targets(
    sources: list[Path], source: Path, out: Path | None, file: Path | None, formats: tuple[str, ...]
) -> list[dict[str, Path]]:
    """For each input the file to write in each format: no two the same, and none of them an input.

    Inputs go into the folder ``out`` under their stem, or under their whole name where two have the same stem. Without
    ``out``: beside the input, or a folder's into ``FOLDER-out``.
    """
    if file is not None:
        return _checked([_named(file, formats)], sources)
    if out is None and not source.is_dir():
        bases = [source.with_name(f"{source.stem}-out")]
    else:
        named = source if source.name not in ("", "..") else source.resolve()
        folder = out or named.with_name(f"{named.name}-out")
        stems = Counter(item.stem for item in sources)
        bases = [folder / (item.stem if stems[item.stem] == 1 else item.name) for item in sources]
    return _checked(
        [{name: base.with_name(base.name + _SUFFIXES[name]) for name in formats} for base in bases], sources
    )


def _named(file: Path, formats: tuple[str, ...]) -> dict[str, Path]:
    """One format goes to ``file`` itself, several to files of its stem."""
    from dpt_deploy.core.images import VIDEO_SUFFIXES

    if len(formats) > 1:
        return {name: file.with_name(file.stem + _SUFFIXES[name]) for name in formats}
    (name,) = formats
    fitting = sorted(VIDEO_SUFFIXES) if name == "video" else [Path("x" + _SUFFIXES[name]).suffix]
    if file.suffix.lower() not in fitting:
        raise UsageError(
            f"{file} does not fit the format {name!r}; expected the suffix {' or '.join(fitting)}",
            hint="name a file of that kind, or an existing folder",
        )
    return {name: file}


def _checked(targets: list[dict[str, Path]], sources: list[Path]) -> list[dict[str, Path]]:
    inputs = {item.resolve() for item in sources}
    seen: set[Path] = set()
    for path in (path for target in targets for path in target.values()):
        if path.resolve() in inputs:
            raise UsageError(f"{path} is an input; it would be overwritten", hint="name another output with -o")
        if path in seen:
            raise UsageError(f"two inputs would be written to {path}", hint="rename one of them")
        seen.add(path)
    return targets


class _Writer:
    """Predicts and writes. One instance a run; stateless between files."""

    def __init__(self, predictor: Predictor, artifact: Artifact, kitti_crop: bool) -> None:
        self._predictor = predictor
        self._metric = artifact.sidecar.model.metric
        self._kitti_crop = kitti_crop

    def image(self, item: Path, targets: dict[str, Path]) -> FileResult:
        from dpt_deploy.core import images

        pixels = self._crop(images.read_image(item))
        prediction = self._predictor(pixels)
        for name, path in targets.items():
            ensure_folder(path.parent)
            self._write(name, path, prediction, pixels)
        return FileResult(item, tuple(targets.values()))

    def video(self, item: Path, targets: dict[str, Path]) -> FileResult:
        """A video of colour-mapped depth, scaled frame by frame, or of the labels' colours over the frames."""
        from dpt_deploy.core import images

        video = images.iter_video(item)
        path = targets["video"]
        ensure_folder(path.parent)
        count = 0
        with images.VideoWriter(path, video.fps) as writer:
            given, shown = tee(map(self._crop, video.frames))
            for prediction, frame in zip(self._predictor.predict_all(given), shown, strict=False):  # one is asked first
                writer.write(self._picture(prediction, frame))
                count += 1
        return FileResult(item, (path,), frames=count)

    def _picture(self, prediction: Prediction, frame: np.ndarray) -> np.ndarray:
        from dpt_deploy.core import images

        if prediction.depth is not None:
            return images.colorize(prediction.depth)
        return images.overlay(frame, _labels(prediction), prediction.num_classes)

    def _crop(self, pixels: np.ndarray) -> np.ndarray:
        return imaging.kitti_crop(pixels) if self._kitti_crop else pixels

    def _write(self, name: str, path: Path, prediction: Prediction, pixels: np.ndarray) -> None:
        from dpt_deploy.core import images

        if name == "labels":
            images.write_labels(path, _labels(prediction), prediction.num_classes)
        elif name == "overlay":
            images.write_overlay(path, pixels, _labels(prediction), prediction.num_classes)
        else:
            self._write_depth(name, path, _depth(prediction))

    def _write_depth(self, name: str, path: Path, depth: np.ndarray) -> None:
        from dpt_deploy.core import images

        if name == "pfm":
            images.write_pfm(path, depth)
        elif name == "color":
            images.write_color(path, depth)
        elif name == "metric" and self._metric is not None:
            images.write_png16(path, imaging.metric_to_uint16(depth, self._metric.png_scale))
        else:
            images.write_png16(path, imaging.depth_to_uint16(depth))


_SUFFIXES = {
    "png": ".png",
    "pfm": ".pfm",
    "color": "-color.png",
    "metric": "-metric.png",
    "labels": "-labels.png",
    "overlay": "-overlay.png",
    "video": ".mp4",
}


def _depth(prediction: Prediction) -> Any:
    if prediction.depth is None:
        raise DptError("a segmentation model returned no depth")
    return prediction.depth


def _labels(prediction: Prediction) -> Any:
    if prediction.labels is None:
        raise DptError("a depth model returned no labels")
    return prediction.labels
