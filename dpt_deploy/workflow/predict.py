"""From files to files: images, folders and videos through an artefact; and :func:`load` for use from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dpt_deploy.core import imaging
from dpt_deploy.core.artifact import Artifact, open_artifact
from dpt_deploy.core.errors import BadFileError, DptError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.spec import Size, check_size
from dpt_deploy.runtime import registry
from dpt_deploy.runtime.predictor import Prediction, Predictor

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
    path: Path | str, *, runtime: str = "ort", size: Size | None = None, threads: int | None = None
) -> Iterator[Predictor]:
    """A predictor over a finished artefact; use it in a ``with`` block.

    Raises:
        BadFileError: the artefact is missing, unfinished or damaged.
        MissingExtraError: the runtime is not installed.
    """
    artifact = open_artifact(Path(path))
    if size is not None:
        check_size(size, stride=artifact.sidecar.model.stride)
    with registry.open_file(artifact.path, runtime, threads=threads) as runner:
        yield Predictor(runner, artifact.sidecar, size=size)


def run_files(
    path: Path,
    source: Path,
    out: Path | None,
    *,
    runtime: str = "ort",
    size: Size | None = None,
    formats: tuple[str, ...] = (),
    kitti_crop: bool = False,
    say: Callable[[str], None] = lambda _line: None,
    started: Callable[[int], None] = lambda _count: None,
    advance: Callable[[FileResult], None] = lambda _result: None,
) -> list[FileResult]:
    """Run an artefact over an image, a video, or every image of a folder, and write the results.

    ``out`` is a file (its suffix chooses the format) for a single image or video, else a folder. A folder continues
    past a file that cannot be read and reports it.

    Raises:
        BadFileError: the source is missing, holds no image, or (for a single file) cannot be read.
        UsageError: a format that the model does not have.
        ResourceError: the output cannot be written.
    """
    with extra("images", purpose="reading and writing images"):
        from dpt_deploy.core import images
    artifact = open_artifact(path)
    chosen = _formats(artifact, formats, out)
    if artifact.sidecar.weights.is_random:
        say(f"weights: {artifact.sidecar.weights}")
    sources = _sources(source, images.IMAGE_SUFFIXES)
    started(len(sources))
    results = []
    with load(path, runtime=runtime, size=size) as predictor:
        writer = _Writer(predictor, artifact, chosen, kitti_crop)
        for item in sources:
            target = _target(item, source, out)
            run = writer.video if item.suffix.lower() in images.VIDEO_SUFFIXES else writer.image
            results.append(_one(run, item, target, single=not source.is_dir()))
            advance(results[-1])
    return results


def _one(run: Callable[[Path, Path], FileResult], item: Path, target: Path, *, single: bool) -> FileResult:
    try:
        return run(item, target)
    except BadFileError as exc:
        if single:
            raise
        return FileResult(item, error=str(exc))


def _sources(source: Path, suffixes: frozenset[str]) -> list[Path]:
    if not source.exists():
        raise BadFileError(f"{source} does not exist", hint="give an image, a video, or a folder of images")
    if source.is_file():
        return [source]
    found = sorted(entry for entry in source.iterdir() if entry.suffix.lower() in suffixes)
    if not found:
        raise BadFileError(f"folder {source} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
    return found


def _target(item: Path, source: Path, out: Path | None) -> Path:
    """The output path of one input: exact for a single file with a suffix, else a stem in the output folder."""
    if out is None:
        return item.with_name(f"{item.stem}-out")
    if out.suffix and not source.is_dir() and not out.is_dir():
        return out
    return out / item.stem


def _formats(artifact: Artifact, formats: tuple[str, ...], out: Path | None) -> tuple[str, ...]:
    model = artifact.sidecar.model
    allowed = DEPTH_FORMATS if model.task == "depth" else SEGMENTATION_FORMATS
    for name in formats:
        if name not in allowed:
            raise UsageError(
                f"format {name!r} does not fit a {model.task} model", hint=f"choose from {', '.join(allowed)}"
            )
        if name == "metric" and model.metric is None:
            raise UsageError("format 'metric' needs a model that returns metres", hint="use hybrid-kitti or hybrid-nyu")
    if formats:
        return formats
    if model.task == "segmentation":
        return ("labels",)
    if out is not None and out.suffix == ".pfm":
        return ("pfm",)
    return ("png",) if out is not None and out.suffix else ("png", "pfm")


class _Writer:
    """Predicts and writes. One instance a run; stateless between files."""

    def __init__(self, predictor: Predictor, artifact: Artifact, formats: tuple[str, ...], kitti_crop: bool) -> None:
        self._predictor = predictor
        self._metric = artifact.sidecar.model.metric
        self._formats = formats
        self._kitti_crop = kitti_crop

    def image(self, item: Path, target: Path) -> FileResult:
        from dpt_deploy.core import images

        pixels = self._crop(images.read_image(item))
        prediction = self._predictor(pixels)
        target.parent.mkdir(parents=True, exist_ok=True)
        single = len(self._formats) == 1
        written = []
        for name in self._formats:
            path = target if target.suffix and single else target.with_name(target.name + _SUFFIXES[name])
            self._write(name, path, prediction, pixels)
            written.append(path)
        return FileResult(item, tuple(written))

    def video(self, item: Path, target: Path) -> FileResult:
        """A video of colour-mapped depth, scaled frame by frame, or of the labels' colours over the frames."""
        from dpt_deploy.core import images

        video = images.iter_video(item)
        path = target if target.suffix else target.with_name(target.name + ".mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with images.VideoWriter(path, video.fps) as writer:
            for frame in video.frames:
                writer.write(self._picture(self._predictor(frame), frame))
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
}


def _depth(prediction: Prediction) -> Any:
    if prediction.depth is None:
        raise DptError("a segmentation model returned no depth")
    return prediction.depth


def _labels(prediction: Prediction) -> Any:
    if prediction.labels is None:
        raise DptError("a depth model returned no labels")
    return prediction.labels
