"""Options ``-v`` and ``-q`` of every command: how much is reported next to results and errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

import click

from dpt_deploy.core.progress import SILENT, Reporter, reporting, say

_CHOSEN = "dpt_deploy.amount"  # key in the context, which a command shares with its group
_HELP = {
    "verbose": "Report details: the options in force, the runtime, and the seconds since the start.",
    "quiet": "Report no progress and no notes; errors and results are printed.",
}


def amount_options() -> list[click.Option]:
    """Make the two options; a group and its commands take them alike."""
    return [
        click.Option([f"-{name[0]}", f"--{name}"], is_flag=True, expose_value=False, callback=_choose, help=_HELP[name])
        for name in ("verbose", "quiet")
    ]


def with_amount(command: click.Command) -> click.Command:
    """Add the options to ``command``, once, and let it report its own options and time to who asks for details."""
    if not any(option.name == "quiet" for option in command.params):
        command.params += amount_options()
        if command.callback is not None:
            command.callback = _detailed(command.callback)
    return command


def default_reporter(ctx: click.Context) -> Reporter | None:
    """The reporter of a call without either option; None if one was given before the command's name."""
    from dpt_deploy.cli.shared.reporter import ConsoleReporter

    return None if _CHOSEN in ctx.meta else ConsoleReporter()


def _choose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    if ctx.meta.setdefault(_CHOSEN, param.name) != param.name:
        raise click.UsageError("-v and -q exclude each other", ctx)
    from dpt_deploy.cli.shared.reporter import ConsoleReporter

    # The root's: it is left by its own `with`, whatever a later option raises.
    ctx.find_root().with_resource(
        reporting(SILENT if param.name == "quiet" else ConsoleReporter(details=True, times=True))
    )


def _detailed(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function of a command: its options are reported before it, its time after it, as details."""

    @functools.wraps(callback)
    def run(*args: Any, **options: Any) -> Any:
        start = perf_counter()
        for name, value in sorted(options.items()):
            if value is not None and value is not False and value not in ((), ""):
                say(f"{name.replace('_', '-')}: {_shown(value)}", detail=True)
        try:
            return callback(*args, **options)
        finally:
            say(f"finished after {perf_counter() - start:.1f} s", detail=True)

    return run


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
