"""Videos: read frame by frame, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_path
from dpt_deploy.core.optional import extra
from dpt_deploy.imaging.files import Pixels, swapped

with extra("images", purpose="reading and writing videos"):
    import cv2

_UNKNOWN_FPS = 30.0  # for a video that does not tell its own


class Video(NamedTuple):
    """Frames per second, and the frames in RGB, (H, W, 3)."""

    fps: float
    frames: Iterator[Pixels]


def iter_video(path: Path) -> Video:
    """The frames of a video, decoded one at a time.

    Raises:
        BadFileError: missing, or not even the first frame can be decoded.
    """
    if not path.is_file():
        raise BadFileError(f"{path} does not exist or is not a regular file", hint="check the path")
    capture = cv2.VideoCapture(str(path))
    found, first = capture.read() if capture.isOpened() else (False, None)
    if not found:
        capture.release()
        raise BadFileError(
            f"{path} holds no video that can be decoded", hint="the file is damaged, incomplete, or of another kind"
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Video(fps if 0 < fps < 1e4 else _UNKNOWN_FPS, _frames(capture, first))


def _frames(capture: Any, first: Any) -> Iterator[Pixels]:
    try:
        found, frame = True, first
        while found:
            yield swapped(frame)
            found, frame = capture.read()
    finally:
        capture.release()


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
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._writer.write(swapped(even))
        self._count += 1

    def _open(self, frame: Pixels) -> None:
        self._shape = frame.shape
        height, width = (side + side % 2 for side in frame.shape[:2])
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, codec, self._fps, (width, height))
        if self._writer.isOpened():
            return
        if self._path.suffix.lower() not in {".mp4", ".m4v", ".mov", ".avi", ".mkv"}:
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
        written = int(cv2.VideoCapture(str(self._temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if written != self._count:
            raise ResourceError(
                f"{self._path} holds {max(0, written)} of {self._count} frames", hint="is the disk full or limited?"
            )
