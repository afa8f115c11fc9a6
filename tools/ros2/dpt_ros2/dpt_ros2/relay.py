"""What the node does with messages, without ``rclpy``: tests drive it with the messages of another library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpt_deploy.core.errors import DptError
from dpt_deploy.jobs.predict.ros.frames import Frames, PinholeCamera, camera_of
from dpt_deploy.runtime.predictor import Prediction


class Relay:
    """Answers images with messages of maps, and keeps the last matrix of the camera.

    ``publish`` gets the name of what is published (``depth``, ``labels``, ``points``, ...) and the message. ``warn``
    gets one line for each message that cannot be used; the same line in a row is reported once.
    """

    def __init__(
        self,
        predict: Callable[[Any], Prediction],
        types: dict[str, Any],
        publish: Callable[[str, Any], None],
        warn: Callable[[str], None],
        *,
        buffer: Callable[[bytes], Any] = bytes,
        focal: tuple[float, float] | None = None,
        points: bool = True,
    ) -> None:
        self._frames = Frames(predict, types, buffer=buffer, focal=focal, points=points)
        self._publish, self._warn = publish, warn
        self._camera: PinholeCamera | None = None
        self._last = ""

    def on_camera_info(self, message: Any) -> None:
        """Keep the matrix of a ``CameraInfo``; a camera that is not calibrated gives no points."""
        try:
            self._camera = camera_of(message, "camera_info")
        except DptError as exc:
            self._camera = None
            self._report(exc)

    def on_image(self, message: Any) -> None:
        """Publish the maps of an ``Image`` or ``CompressedImage`` under its own header."""
        try:
            made = self._frames.answer(message, message.header, self._camera, "the camera")
        except DptError as exc:
            self._report(exc)
            return
        self._last = ""
        for name, answer in made.items():
            self._publish(name, answer)

    def _report(self, error: DptError) -> None:
        line = f"{error} ({error.hint})" if error.hint else str(error)
        if line != self._last:
            self._warn(line)
        self._last = line
