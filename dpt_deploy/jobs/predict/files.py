"""Run an artefact on images, folders and videos, and write the maps to files. Needs the extra ``images``."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee
from pathlib import Path
from typing import TypeVar

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core.environment import cpu_count
from dpt_deploy.core.errors import BadFileError, ParityError, UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.points import CentredCamera, PointOptions
from dpt_deploy.jobs.common.runners import default_runtime
from dpt_deploy.jobs.predict.images import ImageWriter, drawn, explain, with_camera
from dpt_deploy.jobs.predict.load import opened
from dpt_deploy.jobs.predict.rule import with_rule
from dpt_deploy.jobs.predict.steady import SteadyMaps, check_stable
from dpt_deploy.jobs.predict.targets import Targets, choose_formats, find_sources, name_targets
from dpt_deploy.runtime.predictor import Prediction, Predictor, focal_length
from dpt_deploy.runtime.registry import find_runtime
from dpt_deploy.runtime.stages import in_parallel

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging import files as images
    from dpt_deploy.imaging.files import Pixels
    from dpt_deploy.imaging.formats import POINT_FORMATS, POINT_SUFFIXES
    from dpt_deploy.imaging.video import Video, VideoWriter, iter_video

_STREAMS = 2  # images that the network computes at once; each takes the memory of a run
_MAX_WORKERS = 4
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileResult:
    """Result for one input file: the files written, and the reason why none was or why they are incomplete.

    ``frames`` of the ``frames_claimed`` by a video were decoded and written. ``quantities`` has the name of what the
    numbers are, for each output of depth.
    """

    source: Path
    written: tuple[Path, ...] = ()
    error: str = ""
    frames: int = 0
    frames_claimed: int = 0
    quantities: Mapping[str, str] = field(default_factory=dict)


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
    height: int | None = None,
    square: bool = False,
    tag: str = "",
    focal: tuple[float, float] | None = None,
    points: PointOptions | None = None,
    stable: bool = False,
) -> list[FileResult]:
    """Run an artefact over an image, a video, or every image of a folder, and write the results.

    ``out`` is a file (its suffix chooses the format) for a single image or video, else a folder; a text that ends
    with a slash is a folder. A folder continues
    past a file that cannot be read and reports it. ``height`` and ``square`` change the resize rule
    (:func:`~dpt_deploy.jobs.predict.rule.with_rule`). ``tag`` is added to the names of the written files.
    ``focal`` is the focal length of the camera along width and height, in pixels of the images: canonical depth is
    then written in metres. ``points`` has the camera in more detail, and the options of files of points; a focal length
    is enough for these too. ``stable`` steadies the depth of a video (:mod:`dpt_deploy.imaging.steady`).

    Raises:
        BadFileError: the source is missing, holds no image, or (for a single file) cannot be read.
        UsageError: a format that the model does not have or that needs a camera, a camera that changes nothing,
            ``stable`` for anything but depth of a video, or an output that would overwrite an input.
        ResourceError: the output cannot be written.
    """
    path, source = Path(path), Path(source)
    folder = isinstance(out, str) and out.endswith(os.sep)
    out = None if out is None else Path(out)
    artifact = open_artifact(path)
    runner = runtime or default_runtime(artifact.sidecar)
    artifact = with_rule(artifact, runner, height=height, square=square, size=size)
    described = artifact.sidecar
    if focal is not None:
        focal = focal_length(focal)
        points = points or PointOptions(CentredCamera(*focal))
    sources = find_sources(source, images.IMAGE_SUFFIXES)
    video = not source.is_dir() and source.suffix.lower() in images.VIDEO_SUFFIXES
    file = out if out is not None and out.suffix and not folder and not source.is_dir() and not out.is_dir() else None
    if points is not None:
        ending = "" if file is None else file.suffix.lower()
        needed = ending in POINT_SUFFIXES or not POINT_FORMATS.isdisjoint(formats)
        if needed and kitti_crop:
            raise UsageError("--kitti-crop moves the centre of the camera", hint="crop the images, and leave it out")
        described = replace(described, outputs=with_camera(described.outputs, needed=needed))
    if stable:
        check_stable(described.outputs, source, video=video)
    chosen = choose_formats(described, formats, file, video=video, folder=source.is_dir(), camera=points is not None)
    targets = name_targets(sources, source, out, file, chosen, tag)
    check_folder(next(iter(targets[0])).parent)
    if artifact.sidecar.weights.is_random:
        say(f"weights: {artifact.sidecar.weights}")
    quantities = explain(described.outputs)
    divisible = find_runtime(runner).divisible
    streams = min(_STREAMS, cpu_count()) if divisible and (video or len(sources) > 1) else 1
    results = []
    with (
        opened(artifact, runtime=runtime, size=size, device_imaging=device_imaging, streams=streams) as predictor,
        progress("images", len(sources)) as images_done,
    ):
        writer = _Writer(predictor, kitti_crop, points, described.outputs if stable else ())
        with closing(writer.videos(sources, targets) if video else writer.images(sources, targets)) as written:
            for item, finish in zip(sources, written, strict=True):
                result = _one(finish, item, single=not source.is_dir())
                results.append(replace(result, quantities=quantities))
                images_done.advance(item=item.name)
    return results


def _one(finish: Callable[[], FileResult], item: Path, *, single: bool) -> FileResult:
    try:
        return finish()
    except (BadFileError, UsageError, ParityError) as exc:  # of this file; a full disk would meet every other as well
        if single:
            raise
        return FileResult(item, error=str(exc) if item.name in str(exc) else f"{item}: {exc}")


class _Writer:
    """Predicts and writes. One instance a run; stateless between files. ``steadied`` are the outputs to steady.

    Several images are worked on at once: one is read and resized, or resized and written, while the network computes
    others. A predictor that overlaps its own work gets them one after the other.
    """

    def __init__(
        self,
        predictor: Predictor,
        kitti_crop: bool,
        points: PointOptions | None,
        steadied: Sequence[OutputRecord],
    ) -> None:
        self._predictor = predictor
        self._steadied = steadied
        self._writer = ImageWriter(predictor, kitti_crop, None, points)
        self._workers = min(max(2, cpu_count()) + 1, _MAX_WORKERS)

    def images(self, sources: Sequence[Path], targets: Sequence[Targets]) -> Generator[Callable[[], FileResult]]:
        """Yield for every image, in order, a call that returns its result or raises its error."""
        pairs = zip(sources, targets, strict=True)
        if self._predictor.overlaps or len(sources) == 1:
            for pair in pairs:
                yield partial(self._image, pair)
            return
        with closing(in_parallel(pairs, self._image, workers=self._workers)) as futures:
            for future in futures:
                yield future.result

    def videos(self, sources: Sequence[Path], targets: Sequence[Targets]) -> Generator[Callable[[], FileResult]]:
        """Yield the same for videos."""
        for item, target in zip(sources, targets, strict=True):
            yield partial(self._video, item, target)

    def _image(self, pair: tuple[Path, Targets]) -> FileResult:
        """Write every output of one image in every format chosen for it."""
        item, targets = pair
        self._writer.write(images.read_image(item), targets)
        return FileResult(item, tuple(targets))

    def _video(self, item: Path, targets: Targets) -> FileResult:
        """Write a video of the pictures of every output; frames are stretched over their own range, or a steady one."""
        video, count = iter_video(item), 0
        with ExitStack() as stack:
            writers = {}
            for path in targets:
                ensure_folder(path.parent)
                writers[path] = stack.enter_context(VideoWriter(path, video.fps))
            frames_done = stack.enter_context(progress("frames", video.claimed or None))
            for pictures in stack.enter_context(closing(self._pictures(video, targets))):
                for path, picture in pictures.items():
                    writers[path].write(picture)
                count += 1
                frames_done.advance()
        lost = f"{item}: {count} of {video.claimed} frames could be decoded and were written" if video.shortfall else ""
        return FileResult(item, tuple(targets), error=lost, frames=count, frames_claimed=video.claimed)

    def _pictures(self, video: Video, targets: Targets) -> Generator[dict[Path, Pixels]]:
        """Yield what is written of every frame, in order."""
        frames = map(self._writer.crop, video.frames)
        if not self._steadied:
            yield from self._each(frames, lambda prediction, frame: drawn(prediction, frame, targets))
            return
        steady = SteadyMaps(self._steadied)
        with closing(self._each(frames, lambda prediction, frame: (prediction, frame))) as pairs:
            for prediction, frame in pairs:
                yield drawn(steady(prediction, frame), frame, targets)
        steady.report_cuts()

    def _each(self, frames: Iterable[Pixels], work: Callable[[Prediction, Pixels], Result]) -> Generator[Result]:
        """Yield ``work`` of the prediction of every frame and the frame, in order; several are worked on at once."""
        if self._predictor.overlaps:
            given, shown = tee(frames)
            for prediction, frame in zip(self._predictor.predict_all(given), shown, strict=False):  # one is asked first
                yield work(self._writer.metres(prediction), frame)
            return
        with closing(
            in_parallel(frames, lambda frame: work(self._writer.predicted(frame), frame), workers=self._workers)
        ) as futures:
            for future in futures:
                yield future.result()
