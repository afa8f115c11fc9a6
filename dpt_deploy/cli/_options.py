"""Options that several commands share, and the types behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import SizeRange, parse_ranges
from dpt_deploy.core.size import Size, parse_batches, parse_size, parse_sizes

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


def sizes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[Size, ...]:
    """``--res``: syntax only; whether a size fits the model is known where the model is known."""
    found = () if value is None else parse_sizes(value, stride=1)
    if value is not None and not found:
        raise UsageError("--res names no size", hint="for example --res 384,256x640, or leave it out")
    return found


def names(_ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """A list by commas, duplicates dropped, order kept."""
    found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if not found:
        raise UsageError(f"{param.opts[0]} names nothing", hint="give a name, or leave the option out")
    return found


def size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Size | None:
    """One size: syntax only."""
    return parse_size(value, stride=1) if value else None


def batches(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """``--batch``."""
    found = () if value is None else parse_batches(value)
    if value is not None and not found:
        raise UsageError("--batch names no batch", hint="for example --batch 1,3, or leave it out")
    return found


def ranges(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[SizeRange, ...]:
    """``--res`` of an engine: sizes and ranges; syntax only."""
    found = () if value is None else parse_ranges(value, stride=1)
    if value is not None and not found:
        raise UsageError("--res names no size", hint="for example --res 384,256..512, or leave it out")
    return found


def capabilities(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """``--compute-capabilities 8.9,12.0``; which are known, the library knows."""
    return tuple(dict.fromkeys(part.strip() for part in (value or "").split(",") if part.strip()))


def res_option(help_text: str) -> Callable[[Function], Function]:
    """``--res 384,512x672``."""
    return click.option("--res", "res", metavar="SIZES", callback=sizes, help=help_text)


def batch_option(help_text: str) -> Callable[[Function], Function]:
    """``--batch 1,3``."""
    return click.option("--batch", "batch", metavar="N,…", callback=batches, help=help_text)


def json_option(function: Function) -> Function:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")(function)


def checkpoint_options(function: Function) -> Function:
    """Which network, and what becomes of its checkpoint."""
    for option in (
        click.option("--keys", is_flag=True, help="Say what became of every key of the checkpoint."),
        click.option("--classes", type=click.IntRange(min=1), help="Classes of a segmentation model (default 150)."),
        click.option("--task", type=click.Choice(["depth", "segmentation"]), help="Default: what the recipe says."),
        click.option(
            "--backbone", required=True, metavar="NAME", help="A zoo name (see doctor) or a recipe file (.toml)."
        ),
    ):
        function = option(function)
    return function


def artifact_argument(function: Function) -> Function:
    """The exported model a command works on."""
    return click.argument("artifact", type=PATH)(function)
