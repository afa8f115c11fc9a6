"""Run an artefact on images, folders and videos, and write the maps to files. Needs the extra ``images``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.errors import BadFileError, ParityError, UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import rules
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.jobs.predict.targets import Targets, choose_formats, find_sources, name_targets
from dpt_deploy.runtime.predictor import Predictor
from dpt_deploy.runtime.stages import staged

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging import files as images
    from dpt_deploy.imaging.video import Video, VideoWriter, iter_video


@dataclass(frozen=True)
class FileResult:
    """Result for one input file: the files written, and the reason why none was or why they are incomplete.

    ``frames`` of the ``frames_claimed`` by a video were decoded and written.
    """

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""
    frames: int = 0
    frames_claimed: int = 0


def run_files(
    path: Path | str,
    source: Path | str,
    out: Path | str | None,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    formats: tuple[str, ...] = (),
    kitti_crop: bool = False,
    device_imaging: bool = False,
) -> list[FileResult]:
    """Run an artefact over an image, a video, or every image of a folder, and write the results.

    ``out`` is a file (its suffix chooses the format) for a single image or video, else a folder; a text that ends
    with a slash is a folder. A folder continues
    past a file that cannot be read and reports it.

    Raises:
        BadFileError: the source is missing, holds no image, or (for a single file) cannot be read.
        UsageError: a format that the model does not have, or an output that would overwrite an input.
        ResourceError: the output cannot be written.
    """
    path, source = Path(path), Path(source)
    folder = isinstance(out, str) and out.endswith(os.sep)
    out = None if out is None else Path(out)
    artifact = open_artifact(path)
    sources = find_sources(source, images.IMAGE_SUFFIXES)
    video = not source.is_dir() and source.suffix.lower() in images.VIDEO_SUFFIXES
    file = out if out is not None and out.suffix and not folder and not source.is_dir() and not out.is_dir() else None
    chosen = choose_formats(artifact.sidecar, formats, file, video=video)
    targets = name_targets(sources, source, out, file, chosen)
    check_folder(next(iter(targets[0])).parent)
    if artifact.sidecar.weights.is_random:
        say(f"weights: {artifact.sidecar.weights}")
    results = []
    with (
        load(artifact, runtime=runtime, size=size, device_imaging=device_imaging) as predictor,
        progress("images", len(sources)) as images_done,
    ):
        writer = _Writer(predictor, kitti_crop)
        with closing(writer.videos(sources, targets) if video else writer.images(sources, targets)) as written:
            for item, finish in zip(sources, written, strict=True):
                results.append(_one(finish, item, single=not source.is_dir()))
                images_done.advance(item=item.name)
    return results


def _one(finish: Callable[[], FileResult], item: Path, *, single: bool) -> FileResult:
    try:
        return finish()
    except (BadFileError, UsageError, ParityError) as exc:  # of this file; a full disk would meet every other as well
        if single:
            raise
        return FileResult(item, error=str(exc) if item.name in str(exc) else f"{item}: {exc}")


class _Job(NamedTuple):
    """One image on its way: its file, what to write, its pixels (H, W, 3), and what the last stage made of it."""

    item: Path
    targets: Targets
    pixels: np.ndarray
    value: Any

    @property
    def size(self) -> Size:
        return Size(*self.pixels.shape[:2])


class _Writer:
    """Predicts and writes. One instance a run; stateless between files.

    While the network computes, the next image is read and resized, and the last one is resized and written. A predictor
    that overlaps its own work is not divided.
    """

    def __init__(self, predictor: Predictor, kitti_crop: bool) -> None:
        self._predictor = predictor
        self._kitti_crop = kitti_crop

    def images(self, sources: Sequence[Path], targets: Sequence[Targets]) -> Generator[Callable[[], FileResult]]:
        """Yield for every image, in order, a call that returns its result or raises its error."""
        pairs = zip(sources, targets, strict=True)
        if self._predictor.overlaps:
            for item, target in pairs:
                yield partial(self._image, item, target)
            return
        with closing(staged(pairs, self._read, self._compute, self._write)) as futures:
            for future in futures:
                yield future.result

    def videos(self, sources: Sequence[Path], targets: Sequence[Targets]) -> Generator[Callable[[], FileResult]]:
        """Yield the same for videos."""
        for item, target in zip(sources, targets, strict=True):
            yield partial(self._video, item, target)

    def _image(self, item: Path, targets: Targets) -> FileResult:
        pixels = self._crop(images.read_image(item))
        return _write(_Job(item, targets, pixels, self._predictor(pixels)))

    def _read(self, pair: tuple[Path, Targets]) -> _Job:
        item, targets = pair
        return self._begun(self._crop(images.read_image(item)), item, targets)

    def _begun(self, pixels: np.ndarray, item: Path, targets: Targets) -> _Job:
        return _Job(item, targets, pixels, self._predictor.begin(pixels))

    def _compute(self, job: _Job) -> _Job:
        return job._replace(value=self._predictor.compute(job.value))

    def _write(self, job: _Job) -> FileResult:
        return _write(self._ended(job))

    def _ended(self, job: _Job) -> _Job:
        return job._replace(value=self._predictor.end(job.value, job.size))

    def _video(self, item: Path, targets: Targets) -> FileResult:
        """Write a video of the pictures of every output; each frame is stretched over its own range."""
        video, count = iter_video(item), 0
        with ExitStack() as stack:
            writers = {}
            for path in targets:
                ensure_folder(path.parent)
                writers[path] = stack.enter_context(VideoWriter(path, video.fps))
            for job in stack.enter_context(closing(self._frames(video, item, targets))):
                for path, choice in targets.items():
                    if choice.format.picture is not None:
                        found = job.value.maps[choice.output.name]
                        writers[path].write(choice.format.picture(found, job.pixels))
                count += 1
        lost = f"{item}: {count} of {video.claimed} frames could be decoded and were written" if video.shortfall else ""
        return FileResult(item, tuple(targets), error=lost, frames=count, frames_claimed=video.claimed)

    def _frames(self, video: Video, item: Path, targets: Targets) -> Generator[_Job]:
        """Yield every frame with its prediction, in order."""
        frames = map(self._crop, video.frames)
        if self._predictor.overlaps:
            given, shown = tee(frames)
            for prediction, frame in zip(self._predictor.predict_all(given), shown, strict=False):  # one is asked first
                yield _Job(item, targets, frame, prediction)
            return
        begin = partial(self._begun, item=item, targets=targets)
        with closing(staged(frames, begin, self._compute, self._ended)) as futures:
            for future in futures:
                yield future.result()

    def _crop(self, pixels: np.ndarray) -> np.ndarray:
        return rules.kitti_crop(pixels) if self._kitti_crop else pixels


def _write(job: _Job) -> FileResult:
    """Write every output of one image in every format chosen for it."""
    for path, choice in job.targets.items():
        ensure_folder(path.parent)
        choice.format.write(path, job.value.maps[choice.output.name], job.pixels)
    return FileResult(job.item, tuple(job.targets))
