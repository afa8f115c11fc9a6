"""The camera that ``--camera`` names: a number, the address of a stream, or a video file that plays the camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra

with extra("images", purpose="reading a camera"):
    from dpt_deploy.imaging.video import Video, iter_stream, iter_video

_PROTOCOLS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "rtp", "tcp")  # others name files or join several


@dataclass(frozen=True)
class LiveCamera:
    """An open camera.

    Attributes:
        name: for messages and names of files.
        video: its frames as they come.
        interval: seconds between the frames of a file; 0 where the camera itself sets the pace.
        file: the file that plays the camera, if it is one.
        endless: True for a camera that never ends by itself.
    """

    name: str
    video: Video
    interval: float = 0.0
    file: Path | None = None
    endless: bool = False

    def loss(self, taken: int) -> str:
        """An error message if frames are missing after the last of ``taken``; empty if none is."""
        video = self.video
        if self.endless:
            return f"{self.name} stopped after {taken} frames"
        if self.file is not None and video.shortfall:
            return f"{self.file}: {video.decoded} of {video.claimed} frames could be decoded"
        return ""


def open_camera(text: str) -> LiveCamera:
    """Open the camera with a number, the stream at an address, or a video file.

    Raises:
        UsageError: an address of another protocol.
        BadFileError: there is no such camera, stream or file, or it sends no picture.
    """
    if text.isascii() and text.isdigit() and not Path(text).exists():
        return LiveCamera(f"camera {int(text)}", iter_stream(int(text)), endless=True)
    protocol, mark, _ = text.partition("://")
    if not mark:
        video = iter_video(Path(text))
        return LiveCamera(Path(text).stem, video, interval=1 / video.fps, file=Path(text))
    if protocol.lower() not in _PROTOCOLS:
        raise UsageError(
            f"--camera {text!r} has the protocol {protocol!r}; expected one of {', '.join(_PROTOCOLS)}",
            hint="give the number of a camera, an address such as rtsp://HOST/PATH, or a video file",
        )
    return LiveCamera("stream", iter_stream(text))
