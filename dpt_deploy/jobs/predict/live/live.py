"""Run an artefact on a camera: the latest frame, again and again, into a window or a video."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.store import Artifact, open_artifact
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.runners import default_runtime
from dpt_deploy.jobs.predict.images import ImageWriter, drawn, explain, in_metres
from dpt_deploy.jobs.predict.live.camera import LiveCamera, open_camera
from dpt_deploy.jobs.predict.live.latest import LatestFrame
from dpt_deploy.jobs.predict.live.window import Window
from dpt_deploy.jobs.predict.load import opened
from dpt_deploy.jobs.predict.rule import with_rule
from dpt_deploy.jobs.predict.steady import SteadyMaps, check_stable
from dpt_deploy.jobs.predict.targets import Targets, choose_formats, name_targets
from dpt_deploy.runtime.predictor import focal_length

with extra("images", purpose="reading a camera"):
    from dpt_deploy.imaging.files import Pixels
    from dpt_deploy.imaging.video import VideoWriter


@dataclass(frozen=True)
class LiveResult:
    """Result of a run on a camera: frames that were computed, frames that were dropped for newer ones, and the time.

    ``seconds`` begins with the first frame. ``error`` says what was missing.
    """

    frames: int
    dropped: int
    seconds: float
    written: tuple[Path, ...]
    quantities: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def fps(self) -> float:
        """Frames computed per second."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def run_live(
    path: Path | str,
    camera: str,
    out: Path | str | None = None,
    *,
    runtime: str | None = None,
    size: Size | None = None,
    formats: tuple[str, ...] = (),
    height: int | None = None,
    square: bool = False,
    focal: tuple[float, float] | None = None,
    stable: bool = False,
    frames: int | None = None,
    show: bool = False,
) -> LiveResult:
    """Run an artefact on a camera until it ends, ``frames`` are computed, the window is closed, or Ctrl-C.

    ``camera`` is the number of a camera, the address of a stream, or a video file, which plays a camera. The network
    gets the latest frame; frames that came in between are dropped and counted. ``out`` is a video, or a folder for one
    video of each output and format. In it a picture stays until the next, so that it lasts as long as what was seen.
    ``show`` opens a window with the first of them. The other arguments are those of
    :func:`~dpt_deploy.jobs.predict.files.run_files`.

    Raises:
        UsageError: neither a window nor an output, or an argument that does not fit the model.
        BadFileError: there is no such camera, or the artefact cannot be used.
        MissingExtraError: this OpenCV cannot open a window.
        ResourceError: the output cannot be written.
    """
    if out is None and not show:
        raise UsageError("a camera needs an output", hint="add -o VIDEO.mp4, or --show for a window")
    artifact = open_artifact(Path(path))
    artifact = with_rule(
        artifact, runtime or default_runtime(artifact.sidecar), height=height, square=square, size=size
    )
    outputs = artifact.sidecar.outputs
    if focal is not None:
        focal, outputs = focal_length(focal), in_metres(outputs)
    if stable:
        check_stable(outputs, camera, video=True)
    described = replace(artifact, sidecar=replace(artifact.sidecar, outputs=outputs))
    with opened(artifact, runtime=runtime, size=size) as predictor, ExitStack() as stack:
        window = stack.enter_context(Window()) if show else None
        source = open_camera(camera)
        targets = _targets(described, source, out, formats)
        if artifact.sidecar.weights.is_random:
            say(f"weights: {artifact.sidecar.weights}")
        quantities = explain(outputs)
        writer, steady = ImageWriter(predictor, kitti_crop=False, focal=focal), SteadyMaps(outputs) if stable else None

        def pictures(pixels: Pixels) -> dict[Path, Pixels]:
            prediction = writer.predicted(pixels)
            return drawn(steady(prediction, pixels) if steady else prediction, pixels, targets)

        show_one = None if window is None else window.show
        result = _loop(source, pictures, tuple(targets) if out is not None else (), frames, show_one)
        if steady:
            steady.report_cuts()
    return replace(result, quantities=quantities)


def _targets(described: Artifact, source: LiveCamera, out: Path | str | None, formats: tuple[str, ...]) -> Targets:
    """The videos to write. Without ``out``, their names are not used."""
    folder = isinstance(out, str) and out.endswith(os.sep)
    out = None if out is None else Path(out)
    file = out if out is not None and out.suffix and not folder and not out.is_dir() else None
    chosen = choose_formats(described.sidecar, formats, file, video=True)
    given = source.file or Path(source.name.replace(" ", "-"))
    (targets,) = name_targets([given], given, out, file, chosen)
    if out is not None:
        check_folder(next(iter(targets)).parent)
    return targets


class _Ending:
    """Record that Ctrl-C was pressed; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def by_interrupt(self) -> Iterator[None]:
        """Note Ctrl-C inside the block, so that files are finished; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, former)

    def _note(self, _number: int, _frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Film:
    """Videos in which a picture stays until the next, so that they last as long as what was seen."""

    def __init__(self, videos: Mapping[Path, VideoWriter]) -> None:
        self._videos = videos
        self._shown: Mapping[Path, Pixels] = {}
        self._number = 0

    def add(self, number: int, pictures: Mapping[Path, Pixels]) -> None:
        """Write the pictures of a frame, after the last ones for frames that were dropped."""
        number = max(number, self._number + 1)
        for path, video in self._videos.items():
            for _ in range(self._number + 1, number if self._shown else 0):
                video.write(self._shown[path])
            video.write(pictures[path])
        self._shown, self._number = pictures, number


def _loop(
    source: LiveCamera,
    pictures: Callable[[Pixels], dict[Path, Pixels]],
    written: tuple[Path, ...],
    most: int | None,
    show: Callable[[Pixels], bool] | None,
) -> LiveResult:
    ending, count, begun, ended = _Ending(), 0, 0.0, False
    with ExitStack() as stack:
        for path in written:
            ensure_folder(path.parent)
        film = _Film({path: stack.enter_context(VideoWriter(path, source.video.fps)) for path in written})
        bar = stack.enter_context(progress("frames", most or source.video.claimed or None))
        stack.enter_context(ending.by_interrupt())
        camera = stack.enter_context(LatestFrame(source.video.frames, interval=source.interval))
        while not ending.asked and count != most:
            frame = camera.take(lambda: ending.asked)
            if frame is None:
                ended = not ending.asked
                break
            now = time.monotonic()
            begun = begun or now
            found = pictures(frame.pixels)
            # A file has its own rate. A camera may deliver fewer frames than it states, so the clock decides there.
            film.add(frame.number if source.interval else 1 + round((now - begun) * source.video.fps), found)
            count += 1
            bar.advance(item=f"{count / max(1e-9, time.monotonic() - begun):.1f} a second")
            if show is not None and not show(next(iter(found.values()))):
                break
        seconds = time.monotonic() - begun if count else 0.0
    return LiveResult(count, camera.dropped, seconds, written, error=source.loss(count) if ended else "")
