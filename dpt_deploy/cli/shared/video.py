"""Options of videos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from dpt_deploy.core.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
_OF_VIDEOS: Mapping[str, Any] = {"stable": False}


def video_options(function: Function) -> Function:
    """Add the options of videos."""
    return click.option(
        "--stable",
        is_flag=True,
        help="Videos: hold depth to the frame before, so that it flickers less. Depth in metres keeps its scale.",
    )(function)


def check_no_video(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on an archive, which has no videos.

    Raises:
        UsageError: an option is for videos.
    """
    given = [f"--{name}" for name, default in _OF_VIDEOS.items() if options[name] != default]
    if given:
        raise UsageError(f"{', '.join(given)} is for videos; an archive holds images", hint="give one video")
    return {name: value for name, value in options.items() if name not in _OF_VIDEOS}
