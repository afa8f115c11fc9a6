"""A window that shows pictures as they come. Needs an OpenCV that can open windows."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from dpt_deploy.core.errors import MissingExtraError, UsageError
from dpt_deploy.core.optional import extra

with extra("images", purpose="showing pictures"):
    import cv2

    from dpt_deploy.imaging.files import Pixels, swapped

_TITLE = "dpt-deploy"
_KEYS = (27, ord("q"))  # Escape
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


class Window:
    """A window inside a ``with`` block; q, Escape or closing it ends the run.

    Raises:
        UsageError: there is no display.
        MissingExtraError: this OpenCV cannot open windows.
    """

    def __enter__(self) -> Self:
        if sys.platform == "linux" and not any(map(os.environ.get, _DISPLAYS)):
            raise UsageError(
                f"--show needs a display; {' and '.join(_DISPLAYS)} are empty", hint="write a video with -o"
            )
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as exc:
            raise MissingExtraError(
                "this OpenCV cannot open a window (opencv-python-headless has none)",
                hint="pip uninstall opencv-python-headless, then pip install opencv-python; or write a video with -o",
            ) from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyWindow(_TITLE)

    def show(self, picture: Pixels) -> bool:
        """Show RGB pixels (H, W, 3); False once the user has ended it."""
        cv2.imshow(_TITLE, swapped(picture))
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in _KEYS and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
