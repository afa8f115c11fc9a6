"""Options of the commands that apply a model to images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.cli.shared.options import focal, size
from dpt_deploy.core.ranges import MAX_SIDE
from dpt_deploy.jobs.common.runners import runtime_help

Function = TypeVar("Function", bound=Callable[..., Any])


def prediction_options(function: Function) -> Function:
    """Add the options that decide what is written of an image, and how it is computed."""
    for option in (
        click.option(
            "--device-imaging",
            is_flag=True,
            help="Resize images and maps on the GPU that runs the engine (experimental: not yet run on a GPU).",
        ),
        click.option(
            "--kitti-crop", is_flag=True, help="Crop to the bottom centre 352x1216, as the KITTI evaluation does."
        ),
        click.option(
            "--focal",
            callback=focal,
            metavar="PX[,PX]",
            help="Focal length of the camera in pixels of the images (fx, or fx,fy): turns canonical depth into "
            "metres.",
        ),
        click.option("--tag", default="", metavar="TEXT", help="Add TEXT to the names of the files: photo-TEXT.png."),
        click.option(
            "--square", is_flag=True, help="Do not keep the aspect of the image: take the rule's height and width."
        ),
        click.option(
            "--height",
            type=click.IntRange(1, MAX_SIDE),
            metavar="N",
            help="Bound of the network's height and width; the model's resize rule and the aspect are kept.",
        ),
        click.option(
            "--size", callback=size, metavar="HxW", help="Network input size.  [default: by the model's resize rule]"
        ),
        click.option("--runtime", help=f"{runtime_help(ONNX, PLAN)}.  [default: ort; trt for an engine]"),
        click.option(
            "--format",
            "formats",
            multiple=True,
            metavar="FORMAT",
            help="What to write (`run --help` lists them); may be repeated.  "
            "[default: png and pfm, and color for one image; or labels]",
        ),
    ):
        function = option(function)
    return function
