"""Options of the commands that work through archives, and the display of their result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from dpt_deploy.cli.shared.options import PATH
from dpt_deploy.cli.shared.output import print_json, print_path, say
from dpt_deploy.core.errors import BadFileError

Function = TypeVar("Function", bound=Callable[..., Any])


class Counted(Protocol):
    """The counts of one run, as :class:`~dpt_deploy.jobs.predict.archive.archive.ArchiveSummary` has them."""

    @property
    def done(self) -> int: ...

    @property
    def skipped(self) -> int: ...

    @property
    def failed(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def manifest(self) -> Path: ...


def archive_options(function: Function) -> Function:
    """Add the options of archives."""
    for option in (
        click.option(
            "--shard",
            metavar="I/N",
            help="Work on part I of N, counted from 0: the same images whatever else the folder holds.",
        ),
        click.option("--resume", is_flag=True, help="Skip what the manifest says is finished, if nothing has changed."),
        click.option(
            "--manifest",
            type=PATH,
            help="File for a row (JSON) of every image.  [default: manifest.jsonl in the output folder]",
        ),
        click.option("--recursive", is_flag=True, help="Read subfolders too; relative names are kept."),
    ):
        function = option(function)
    return function


def show_summary(found: Counted, *, as_json: bool) -> None:
    """Print the counts and the path of the manifest.

    Raises:
        BadFileError: an image failed.
    """
    if as_json:
        counts = {"done": found.done, "skipped": found.skipped, "failed": found.failed}
        print_json({**counts, "manifest": str(found.manifest)})
    else:
        say(f"{found.done} images done, {found.skipped} skipped as finished, {found.failed} failed")
        print_path(found.manifest)
    if found.failed:
        raise BadFileError(
            f"{found.failed} of {found.total} files could not be processed; the others were written",
            hint=f"see the rows with status 'failed' in {found.manifest}",
        )
