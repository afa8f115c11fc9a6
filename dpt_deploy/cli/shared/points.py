"""Options of files that hold points in space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dpt_deploy.cli.shared.options import PATH
from dpt_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from dpt_deploy.imaging.points import PhotoCamera, PointOptions

Function = TypeVar("Function", bound=Callable[..., Any])
_DETAILS = ("stride", "edge", "normals", "ratio")


def points_options(function: Function) -> Function:
    """Add the camera of the images, and the options of the formats ``ply`` and ``glb``."""
    for option in (
        click.option(
            "--depth-ratio",
            "ratio",
            type=float,
            metavar="R",
            help="Points of relative depth: the assumed depth of the farthest pixel over that of the nearest.  "
            "[default: 10]",
        ),
        click.option("--normals", is_flag=True, help="Points: write a normal for each."),
        click.option(
            "--edge",
            type=float,
            metavar="SHARE",
            help="Points: drop pixels where the depth to a neighbour jumps by more than this share of the nearer "
            "depth; 0 keeps all.  [default: 0.1]",
        ),
        click.option(
            "--stride", type=click.IntRange(1), metavar="N", help="Points: take every Nth row and column.  [default: 1]"
        ),
        click.option(
            "--intrinsics",
            type=PATH,
            metavar="FILE",
            help="Camera of the images: JSON with fx, fy, cx, cy or the matrix K, or the text 'fx fy cx cy'.",
        ),
        click.option("--fov", type=float, metavar="DEG", help="Camera of the images: horizontal field of view."),
    ):
        function = option(function)
    return function


def points_from(options: dict[str, Any]) -> PointOptions | None:
    """Take the options of :func:`points_options` out of ``options``; None if there is none.

    ``--focal`` stays in ``options``, and is the camera as well.

    Raises:
        UsageError: two cameras, options of points without a camera, or a number out of its range.
        BadFileError: the file of the intrinsics cannot be used.
    """
    fov, file = options.pop("fov"), options.pop("intrinsics")
    taken = {name: options.pop(name) for name in _DETAILS}
    details = {name: value for name, value in taken.items() if value is not None and value is not False}  # 0 is given
    given = [fov, file, options["focal"]]
    if sum(each is not None for each in given) > 1:
        raise UsageError("--fov, --focal and --intrinsics each name the camera", hint="leave all but one of them out")
    if all(each is None for each in given):
        if details:
            raise UsageError("options of points need the camera", hint="add --fov DEG, --focal PX or --intrinsics FILE")
        return None
    if fov is None and file is None and not details:
        return None  # a focal length alone
    from dpt_deploy.imaging.points import PointOptions

    return PointOptions(_camera(fov, file, options["focal"]), **details)


def _camera(fov: Any, file: Any, focal: tuple[float, float] | None) -> PhotoCamera:
    from dpt_deploy.imaging.points import CentredCamera, ViewCamera
    from dpt_deploy.jobs.predict.intrinsics import read_intrinsics

    if file is not None:
        return read_intrinsics(file)
    return ViewCamera(fov) if focal is None else CentredCamera(*focal)
