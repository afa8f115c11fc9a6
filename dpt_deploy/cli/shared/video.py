"""Options of videos and cameras, and the display of a run on a camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from dpt_deploy.cli.shared.output import print_json, print_path, say
from dpt_deploy.core.errors import BadFileError, UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
_OF_CAMERAS: Mapping[str, Any] = {"camera": None, "frames": None, "show": False}
_TAKEN = (*_OF_CAMERAS, "out", "runtime", "size", "height", "square", "focal", "formats", "stable")  # by a camera


class LiveCounts(Protocol):
    """The counts of one run, as :class:`~dpt_deploy.jobs.predict.live.live.LiveResult` has them."""

    @property
    def frames(self) -> int: ...

    @property
    def dropped(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def written(self) -> Sequence[Path]: ...

    @property
    def quantities(self) -> Mapping[str, str]: ...

    @property
    def error(self) -> str: ...


def video_options(function: Function) -> Function:
    """Add the options of videos and cameras."""
    for option in (
        click.option("--show", is_flag=True, help="Camera: show the result in a window; q or Escape ends the run."),
        click.option(
            "--frames", type=click.IntRange(1), metavar="N", help="Camera: end after N frames.  [default: Ctrl-C]"
        ),
        click.option(
            "--camera",
            metavar="N|URL|FILE",
            help="Instead of SOURCE: the number of a camera, the address of a stream (rtsp://HOST/PATH), or a video "
            "that takes the place of a camera. The latest frame is computed, older ones are dropped.",
        ),
        click.option(
            "--stable",
            is_flag=True,
            help="Videos: align depth with the previous frame, so that it flickers less. Depth in metres keeps its "
            "scale.",
        ),
    ):
        function = option(function)
    return function


def check_no_video(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on an archive, which has no videos.

    Raises:
        UsageError: ``--stable`` is given.
    """
    if options["stable"]:
        raise UsageError("--stable is for videos; an archive holds images", hint="give one video")
    return {name: value for name, value in options.items() if name != "stable"}


def for_camera(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on a camera.

    Raises:
        UsageError: an option has no meaning for a camera.
    """
    source = click.get_current_context().get_parameter_source
    others = [name for name in options if name not in _TAKEN and source(name) is not ParameterSource.DEFAULT]
    if others:
        given = ", ".join("SOURCE" if name == "source" else f"--{name.replace('_', '-')}" for name in others)
        raise UsageError(f"{given} cannot be used with --camera", hint="leave it out")
    return {name: options[name] for name in _TAKEN}


def check_no_camera(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on anything else.

    Raises:
        UsageError: an option is for cameras, or there is no source.
    """
    given = [f"--{name}" for name, default in _OF_CAMERAS.items() if options[name] != default]
    if given:
        raise UsageError(f"{', '.join(given)} is for a camera; none is given", hint="add --camera N, URL or FILE")
    if options["source"] is None:
        raise UsageError(
            "Missing argument 'SOURCE'",
            hint="name an image, a folder, a video or a bag after the model, or give --camera N",
        )
    return {name: value for name, value in options.items() if name not in _OF_CAMERAS}


def show_live(found: LiveCounts, *, as_json: bool) -> None:
    """Print the counts and the paths of a run on a camera.

    Raises:
        BadFileError: frames are missing.
    """
    say(f"{found.frames} frames, {found.fps:.1f} a second; {found.dropped} older frames dropped")
    if as_json:
        counts = {"frames": found.frames, "dropped": found.dropped, "frames_per_second": found.fps}
        written = [str(path) for path in found.written]
        print_json({**counts, "written": written, "quantities": found.quantities, "error": found.error})
    else:
        for path in found.written:
            print_path(path)
    if found.error:
        raise BadFileError(found.error, hint="what was seen until then is written")
