"""Options of the bags of ROS, and the display of a run on one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from dpt_deploy.cli.shared.output import print_json, print_path, say
from dpt_deploy.core.errors import BadFileError, UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
_OF_BAGS: Mapping[str, Any] = {"topic": None, "camera_info": None, "points": False, "others": "copy"}
_TAKEN = (*_OF_BAGS, "out", "runtime", "size", "height", "square", "focal")  # by a run on a bag
_NAMED = 3  # images that could not be read


class BagCounts(Protocol):
    """The counts of one run, as :class:`~dpt_deploy.jobs.predict.ros.bag.BagResult` has them."""

    @property
    def written(self) -> Path: ...

    @property
    def images(self) -> int: ...

    @property
    def topics(self) -> Sequence[str]: ...

    @property
    def errors(self) -> Sequence[str]: ...


def bag_options(function: Function) -> Function:
    """Add the options of bags."""
    for option in (
        click.option(
            "--others",
            type=click.Choice(["copy", "drop"]),
            default="copy",
            show_default=True,
            help="Messages of a bag that were read: copy them into the output, or leave them out.",
        ),
        click.option(
            "--points",
            is_flag=True,
            help="Write PointCloud2 into the bag, too (depth in metres and a camera_info are needed).",
        ),
        click.option(
            "--camera-info",
            metavar="TOPIC",
            help="Topic of a bag with the matrix of the camera.  [default: camera_info next to the images]",
        ),
        click.option(
            "--topic",
            metavar="TOPIC",
            help="Topic of a bag with images (Image or CompressedImage).  [default: the only one]",
        ),
    ):
        function = option(function)
    return function


def is_bag_name(source: Path) -> bool:
    """True for a ``.bag``, ``.db3`` or ``.mcap`` file, or a folder with ``metadata.yaml``."""
    return source.suffix.lower() in (".bag", ".db3", ".mcap") or (source / "metadata.yaml").exists()


def for_bag(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on a bag.

    Raises:
        UsageError: an option has no meaning for a bag.
    """
    source = click.get_current_context().get_parameter_source
    others = [name for name in options if name not in _TAKEN and source(name) is not ParameterSource.DEFAULT]
    given = ["--format" if name == "formats" else f"--{name.replace('_', '-')}" for name in others]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot be used with a bag",
            hint="a bag gets 32FC1 depth, labels and, with --points, points",
        )
    kept = {name: options[name] for name in _TAKEN}
    return kept | {"out": None if kept["out"] is None else Path(kept["out"])}


def check_no_bag(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run on anything else.

    Raises:
        UsageError: an option is for bags.
    """
    given = [f"--{name.replace('_', '-')}" for name, default in _OF_BAGS.items() if options[name] != default]
    if given:
        raise UsageError(
            f"{', '.join(given)} is for bags of ROS; the input is none",
            hint="give a .bag file, the folder of a ROS 2 bag, or one .db3 or .mcap file",
        )
    return {name: value for name, value in options.items() if name not in _OF_BAGS}


def show_bag(found: BagCounts, *, as_json: bool) -> None:
    """Print the counts, the topics and the path of the bag.

    Raises:
        BadFileError: an image could not be read.
    """
    if as_json:
        counts = {"written": str(found.written), "images": found.images, "topics": list(found.topics)}
        print_json({**counts, "errors": list(found.errors)})
    else:
        say(f"{found.images} images: {', '.join(found.topics)}")
        print_path(found.written)
    if found.errors:
        for error in found.errors[:_NAMED]:
            say(f"skipped: {error}", style="red")
        raise BadFileError(
            f"{len(found.errors)} of {len(found.errors) + found.images} images could not be processed; the others "
            "were written",
            hint="see the message for the first of them above",
        )
