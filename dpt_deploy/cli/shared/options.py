"""Options that several commands share, and their parsers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from dpt_deploy.artifact.sidecar import ONNX
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.precision import PRECISIONS
from dpt_deploy.core.profile import SizeRange, parse_ranges
from dpt_deploy.core.ranges import MAX_CLASSES
from dpt_deploy.core.size import Size, parse_batches, parse_size, parse_sizes
from dpt_deploy.core.spec import TaskChoice
from dpt_deploy.jobs.common.runners import runtime_help

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
ApproximationText = tuple[str, tuple[float, ...]]  # name and numbers of an approximate rewrite
RECONSTRUCTIONS = ("hard", "knn")
MERGING = "tokens-merge"
CLUSTERS = 3  # numbers: block, rows, columns


def sizes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[Size, ...]:
    """Parse ``--res``. Only the syntax is checked: the job knows which sizes the model takes."""
    found = () if value is None else parse_sizes(value, stride=1)
    if value is not None and not found:
        raise UsageError(
            "--res is empty; expected one or more sizes", hint="for example --res 384,256x640, or leave it out"
        )
    return found


def names(_ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Parse a list separated by commas; duplicates are dropped, the order is kept."""
    found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not found:
        raise UsageError(
            f"{param.opts[0]} is empty; expected one or more names", hint="give a name, or leave the option out"
        )
    return found


def size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Size | None:
    """Parse one size. Only the syntax is checked."""
    return parse_size(value, stride=1) if value else None


def focal(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Parse ``--focal 1000`` or ``--focal 1000,990``: along width and height."""
    if value is None:
        return None
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(
            f"{param.opts[0]} is {value!r}; expected one number of pixels, or two",
            hint="for example --focal 1000, or --focal 1000,990",
        )
    return numbers[0], numbers[-1]


def batches(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Parse ``--batch``."""
    found = () if value is None else parse_batches(value)
    if value is not None and not found:
        raise UsageError(
            "--batch is empty; expected one or more numbers", hint="for example --batch 1,3, or leave it out"
        )
    return found


def ranges(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[SizeRange, ...]:
    """Parse ``--res`` of an engine: sizes and ranges. Only the syntax is checked."""
    found = () if value is None else parse_ranges(value, stride=1)
    if value is not None and not found:
        raise UsageError(
            "--res is empty; expected one or more sizes", hint="for example --res 384,256..512, or leave it out"
        )
    return found


def capabilities(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Parse ``--compute-capabilities 8.9,12.0``. The library knows which exist."""
    return tuple(dict.fromkeys(part.strip() for part in (value or "").split(",") if part.strip()))


def res_option(help_text: str) -> Callable[[Function], Function]:
    """Return the option ``--res 384,512x672``."""
    return click.option("--res", "res", metavar="SIZES", callback=sizes, help=help_text)


def batch_option(help_text: str) -> Callable[[Function], Function]:
    """Return the option ``--batch 1,3``."""
    return click.option("--batch", "batch", metavar="N,…", callback=batches, help=help_text)


def approximate(_ctx: click.Context, _param: click.Parameter, value: str | None) -> ApproximationText | None:
    """Parse ``--approximate NAME=VALUE,…``."""
    if value is None:
        return None
    name, _, numbers = value.partition("=")
    try:
        return name, tuple(float(number) for number in numbers.split(","))
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is not NAME=VALUE with a number as the value") from exc


def clusters(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[tuple[float, ...], ...]:
    """Parse ``--tokens 4:16x16,4:30%,…``: of each, block, rows and columns of clusters, or block and percent."""
    parts = [] if value is None else value.split(",")
    if twice := next((part for part in parts if parts.count(part) > 1), None):
        raise UsageError(f"--tokens names {twice} twice", hint="name each once")
    return tuple(map(_clusters, parts))


def _clusters(text: str) -> tuple[float, ...]:
    found = re.fullmatch(r"(\d{1,4}):(?:(\d{1,4})x(\d{1,4})|(\d{1,4})%)", text.strip())
    if found is None:
        raise UsageError(
            f"--tokens {text!r} is not LAYER:HxW or LAYER:N%",
            hint="for example --tokens 4:16x16: 16x16 clusters behind block 4; 4:30%: 30 % of the tokens are merged",
        )
    return tuple(float(number) for number in found.groups() if number)


def tokens_options(help_text: str, metavar: str = "LAYER:HxW|LAYER:N%") -> Callable[[Function], Function]:
    """Return the options ``--tokens 4:16x16`` (or ``4:30%``) and ``--reconstruction knn``."""

    def add(function: Function) -> Function:
        function = click.option(
            "--reconstruction",
            type=click.Choice(RECONSTRUCTIONS),
            help="Tokens are restored from the nearest cluster (hard, the default) or from the nearest ones (knn).",
        )(function)
        return click.option("--tokens", "tokens", metavar=metavar, callback=clusters, help=help_text)(function)

    return add


def clusterings(tokens: tuple[tuple[float, ...], ...], reconstruction: str | None) -> tuple[ApproximationText, ...]:
    """Return the approximations that ``--tokens`` and ``--reconstruction`` ask for.

    Raises:
        UsageError: a reconstruction, and no clusters to reconstruct from.
    """
    if reconstruction and not any(len(numbers) == CLUSTERS for numbers in tokens):
        raise UsageError(
            "--reconstruction is for clusters of tokens", hint="ask for some, for example with --tokens 4:16x16"
        )
    clustering = f"tokens-{reconstruction or RECONSTRUCTIONS[0]}"
    return tuple((clustering if len(numbers) == CLUSTERS else MERGING, numbers) for numbers in tokens)


def precisions_option(default: str, *, before: str = "") -> Callable[[Function], Function]:
    """Return the option ``--precision fp32,int8-cpu``; ``before`` says what the precisions are for."""
    return click.option(
        "--precision",
        "precisions",
        default=default,
        show_default=True,
        callback=names,
        help=f"{before or 'One'} or more of {', '.join(PRECISIONS)}, separated by commas.",
    )


def runtimes_option(function: Function) -> Function:
    """Add the option ``--runtime ort,openvino``, of runtimes for exported models and PyTorch."""
    return click.option(
        "--runtime",
        "runtimes",
        default="ort",
        show_default=True,
        callback=names,
        help=f"One or more, separated by commas. {runtime_help(ONNX, reference=True)}.",
    )(function)


def json_option(function: Function) -> Function:
    """Add the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")(function)


def checkpoint_options(function: Function, *, backbone_required: bool = True) -> Function:
    """Add the options that choose the network and report on its checkpoint."""
    for option in (
        click.option(
            "--keys",
            is_flag=True,
            help="List everything in the checkpoint, and the parameter each key was loaded into.",
        ),
        click.option(
            "--entry",
            default="",
            metavar="NAME",
            help="Which network of a training checkpoint that holds several, for example model_ema.",
        ),
        click.option(
            "--classes",
            type=click.IntRange(1, MAX_CLASSES),
            help="Number of classes of a segmentation model (default: 150).",
        ),
        click.option("--task", type=click.Choice(get_args(TaskChoice)), help="Default: the task of the recipe."),
        click.option(
            "--backbone",
            required=backbone_required,
            metavar="NAME",
            help="Name of a network (see `dpt-deploy models`) or a recipe file (.toml).",
        ),
    ):
        function = option(function)
    return function


def signature_options(function: Function) -> Function:
    """Add the options that check a signature before the artefact is read."""
    for option in (
        click.option("--signature", type=PATH, help="File of the signature.  [default: the artefact's name with .sig]"),
        click.option(
            "--public-key",
            type=PATH,
            help="Check the signature with this key (PEM) before anything is read; exit with 5 if a file differs.",
        ),
    ):
        function = option(function)
    return function


def artifact_argument(function: Function) -> Function:
    """Add the argument ARTIFACT: an exported model or an engine."""
    return click.argument("artifact", type=PATH)(function)
