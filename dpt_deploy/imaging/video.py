"""Videos: read frame by frame, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dpt_deploy.core import limits
from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_path
from dpt_deploy.core.optional import extra
from dpt_deploy.imaging.content import AVI, HEAD, MP4, video_kind
from dpt_deploy.imaging.edit_list import shown_share
from dpt_deploy.imaging.files import WRITABLE_VIDEO_SUFFIXES, Pixels, swapped

# Read once, when FFmpeg is first used. Its lines about damaged streams would stand next to our error; -8 is "quiet".
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
with extra("images", purpose="reading and writing videos"):
    import cv2

_UNKNOWN_FPS = 30.0  # for a video that does not state its own
_MAX_FPS = 1e4
_MAX_DENOMINATOR = 65535  # of the time base of an MPEG-4 stream
_RATE_ERROR = 0.001  # frames per second: OpenCV looks for a fraction as near as this
_MAX_MISSED = 10_000  # frames in a row that cannot be decoded
_COUNTED = (MP4, AVI)  # containers that hold the number of frames; others state a duration
_ESTIMATE = 0.9  # share of the frames of a duration below which some are missing


@dataclass
class Video:
    """A video that is being read.

    Attributes:
        fps: frames per second.
        frames: the frames in RGB, (H, W, 3), decoded one at a time.
        claimed: number of frames that the file states; 0 if unknown.
        decoded: number of frames decoded so far.
        damaged: True once a frame before the last one could not be decoded.
        counted: True if the file holds ``claimed``, False if it is an estimate.
    """

    fps: float
    frames: Iterator[Pixels]
    claimed: int
    counted: bool
    decoded: int = 0
    damaged: bool = False

    @property
    def shortfall(self) -> int:
        """Number of frames that are missing; meant for after the last frame."""
        missing = max(0, self.claimed - self.decoded)
        if self.damaged:
            return max(1, missing)
        return missing if self.counted or self.decoded < _ESTIMATE * self.claimed else 0


def iter_video(path: Path) -> Video:
    """The frames of a video, decoded one at a time. Frames that cannot be decoded are left out.

    Only containers of :mod:`dpt_deploy.imaging.content` are opened: no playlist, no address, no pattern of names.

    Raises:
        BadFileError: missing, of another kind, larger than the limit, or not one frame can be decoded.
    """
    try:
        if not path.is_file():
            raise BadFileError(f"{path} does not exist or is not a regular file", hint="check the path")
        with path.open("rb") as file:
            kind = video_kind(file.read(HEAD))
    except OSError as exc:
        raise BadFileError(f"cannot read {path}: {exc.strerror or exc}", hint="check the path") from exc
    if kind is None:
        raise _no_video(path)
    capture = cv2.VideoCapture(_address(path), cv2.CAP_FFMPEG)  # no other reader of OpenCV is asked
    with _released_on_error(capture):
        limits.IMAGE.check(path, 3 * _property(capture, "WIDTH") * _property(capture, "HEIGHT"))
        counted = _property(capture, "COUNT")
        claimed = round(counted * shown_share(path)) if kind == MP4 else counted  # of a trimmed video, the shown part
        is_exact = kind in _COUNTED and claimed == counted
        video = Video(_rate(capture), iter(()), claimed, is_exact)
        first = _next(capture, video) if capture.isOpened() else None
        if first is None:
            raise _no_video(path)
    video.frames = _frames(capture, video, first)
    return video


def iter_stream(source: int | str) -> Video:
    """The frames of a camera by its number, or of a stream by its address, decoded one at a time as they come.

    Raises:
        BadFileError: there is no such camera or stream, it sends no frame, or frames larger than the limit.
    """
    name = f"camera {source}" if isinstance(source, int) else source
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its lines would stand next to our error
    try:
        capture = cv2.VideoCapture(source, cv2.CAP_ANY if isinstance(source, int) else cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    with _released_on_error(capture):
        limits.IMAGE.check(name, 3 * _property(capture, "WIDTH") * _property(capture, "HEIGHT"))
        video = Video(_rate(capture), iter(()), claimed=0, counted=False)
        first = _next(capture, video) if capture.isOpened() else None
        if first is None:
            hint = "is it connected, may you read it, and does no other program use it?"
            raise BadFileError(
                f"{name} sends no picture",
                hint=hint if isinstance(source, int) else "check the address and the network",
            )
    video.frames = _frames(capture, video, first)
    return video


@contextmanager
def _released_on_error(capture: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        capture.release()
        raise


def _rate(capture: Any) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps < _MAX_FPS else _UNKNOWN_FPS


def _no_video(path: Path) -> BadFileError:
    return BadFileError(
        f"{path} holds no video that can be decoded", hint="the file is damaged, incomplete, or of another kind"
    )


def _property(capture: Any, name: str) -> int:
    return max(0, int(capture.get(getattr(cv2, f"CAP_PROP_FRAME_{name}"))))


def _next(capture: Any, video: Video) -> Any:
    """The next frame that can be decoded (BGR); None after the last, given how many the file claims."""
    missed = 0
    while True:
        found, frame = capture.read()
        if found:
            video.decoded += 1
            video.damaged |= missed > 0
            return frame
        missed += 1
        if missed > min(video.claimed - video.decoded, _MAX_MISSED):
            return None


def _frames(capture: Any, video: Video, first: Any) -> Iterator[Pixels]:
    try:
        frame = first
        while frame is not None:
            yield swapped(frame)
            frame = _next(capture, video)
    finally:
        capture.release()


def writable_rate(fps: float) -> float:
    """The frame rate nearest to ``fps`` that OpenCV can hand to an MPEG-4 stream.

    OpenCV makes a decimal fraction of the rate, exact to 0.001. The stream takes numerators up to 65535.
    """
    nearest = fps
    for base in (1, 10, 100, 1000, 10_000):
        rate = round(fps * base)
        if rate > _MAX_DENOMINATOR:
            return nearest
        nearest = rate / base
        if abs(nearest - fps) < _RATE_ERROR:
            return fps
    return nearest


def _address(path: Path) -> str:
    """The path for FFmpeg, which otherwise takes what precedes a colon in a name for a protocol.

    Raises:
        BadFileError: a name is no UTF-8, on which OpenCV crashes.
    """
    address = f"file:{path.absolute()}"
    try:
        address.encode()
    except UnicodeEncodeError as exc:
        raise BadFileError(f"{path} has a name that is no UTF-8 text", hint="rename the file or its folder") from exc
    return address


class VideoWriter:
    """Writes RGB frames of one size as an ``mp4v`` video; the file appears when the ``with`` block ends well.

    The codec halves its colour planes, so an odd side is padded by repeating its last row or column.

    Raises:
        UsageError: frames of different sizes, or none, or a suffix that cannot hold the codec.
        ResourceError: the video cannot be written in full.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._temporary = path
        self._stack = ExitStack()
        self._writer: Any = None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> Self:
        self._temporary = self._stack.enter_context(atomic_path(self._path))
        self._stack.push(self._finish)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Pixels) -> None:
        """Append one frame (H, W, 3)."""
        if self._writer is None:
            self._open(frame)
        if frame.shape != self._shape:
            raise UsageError(
                f"a frame is {frame.shape}; the first was {self._shape}", hint="write one size to one video"
            )
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._writer.write(swapped(frame))
        self._count += 1

    def _open(self, frame: Pixels) -> None:
        self._shape = frame.shape
        height, width = (side + side % 2 for side in frame.shape[:2])
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(
            _address(self._temporary), cv2.CAP_FFMPEG, codec, writable_rate(self._fps), (width, height)
        )
        if self._writer.isOpened():
            return
        if self._path.suffix.lower() not in WRITABLE_VIDEO_SUFFIXES:
            raise UsageError(f"{self._path} cannot hold an mp4v video", hint="use the suffix .mp4")
        raise ResourceError(f"cannot write {self._path}", hint="check that its folder exists and can be written")

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file, and read its frame count back: OpenCV reports no write error of its own."""
        if self._writer is not None:
            self._writer.release()
        if kind is not None:
            return
        if not self._count:
            raise UsageError(f"no frame was written to {self._path}", hint="write at least one frame")
        written = int(cv2.VideoCapture(_address(self._temporary), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT))
        if written != self._count:
            raise ResourceError(
                f"{self._path} holds {max(0, written)} of {self._count} frames", hint="is the disk full or limited?"
            )
