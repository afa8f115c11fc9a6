"""From files to files: images, folders and videos through an artefact; and :func:`load` for use from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import BadFileError, ParityError, UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import encode, rules
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.predict.targets import choose_formats, find_sources, name_targets
from dpt_deploy.runtime.predictor import Prediction, Predictor


@dataclass(frozen=True)
class FileResult:
    """What became of one input file: the files written, or the reason why none was."""

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""
    frames: int = 0


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
        from dpt_deploy.imaging import files as images
    artifact = open_artifact(path)
    sources = find_sources(source, images.IMAGE_SUFFIXES)
    video = not source.is_dir() and source.suffix.lower() in images.VIDEO_SUFFIXES
    file = out if out is not None and out.suffix and not source.is_dir() and not out.is_dir() else None
    chosen = choose_formats(artifact, formats, file, video=video)
    targets = name_targets(sources, source, out, file, chosen)
    check_folder(next(iter(targets[0].values())).parent)
    if artifact.sidecar.weights.is_random:
        say(f"weights: {artifact.sidecar.weights}")
    results = []
    with (
        load(artifact, runtime=runtime, size=size, device_imaging=device_imaging) as predictor,
        progress("images", len(sources)) as images_done,
    ):
        writer = _Writer(predictor, kitti_crop)
        run = writer.video if video else writer.image
        for item, target in zip(sources, targets, strict=True):
            results.append(_one(run, item, target, single=not source.is_dir()))
            images_done.advance(item=item.name)
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


class _Writer:
    """Predicts and writes. One instance a run; stateless between files."""

    def __init__(self, predictor: Predictor, kitti_crop: bool) -> None:
        self._predictor = predictor
        self._kitti_crop = kitti_crop

    def image(self, item: Path, targets: dict[str, Path]) -> FileResult:
        from dpt_deploy.imaging import files as images

        pixels = self._crop(images.read_image(item))
        prediction = self._predictor(pixels)
        for name, path in targets.items():
            ensure_folder(path.parent)
            self._write(name, path, prediction, pixels)
        return FileResult(item, tuple(targets.values()))

    def video(self, item: Path, targets: dict[str, Path]) -> FileResult:
        """A video of colour-mapped depth, scaled frame by frame, or of the labels' colours over the frames."""
        from dpt_deploy.imaging.video import VideoWriter, iter_video

        video = iter_video(item)
        path = targets["video"]
        ensure_folder(path.parent)
        count = 0
        with VideoWriter(path, video.fps) as writer:
            given, shown = tee(map(self._crop, video.frames))
            for prediction, frame in zip(self._predictor.predict_all(given), shown, strict=False):  # one is asked first
                writer.write(self._picture(prediction, frame))
                count += 1
        return FileResult(item, (path,), frames=count)

    def _picture(self, prediction: Prediction, frame: np.ndarray) -> np.ndarray:
        from dpt_deploy.imaging import files as images

        (found,) = prediction.maps.values()
        if found.task.of_classes:
            return images.overlay(frame, found.values, found.num_classes)
        return images.colorize(found.values)

    def _crop(self, pixels: np.ndarray) -> np.ndarray:
        return rules.kitti_crop(pixels) if self._kitti_crop else pixels

    def _write(self, name: str, path: Path, prediction: Prediction, pixels: np.ndarray) -> None:
        from dpt_deploy.imaging import files as images

        (found,) = prediction.maps.values()
        if name == "labels":
            images.write_labels(path, found.values, found.num_classes)
        elif name == "overlay":
            images.write_overlay(path, pixels, found.values, found.num_classes)
        elif name == "pfm":
            images.write_pfm(path, found.values)
        elif name == "color":
            images.write_color(path, found.values)
        elif name == "metric":
            images.write_png16(path, encode.metric_to_uint16(found.values, found.png_scale))
        else:
            images.write_png16(path, encode.depth_to_uint16(found.values))
