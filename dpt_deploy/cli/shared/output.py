"""Output of results (tables and JSON on standard output) and of messages (standard error)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpt_deploy.artifact.records import AccuracyRecord, CaseResult
from dpt_deploy.cli.shared.printable import printable

talk = Console(stderr=True, highlight=False)
# In a pipe a table is as wide as it needs to be: nothing is cut or folded.
results = Console(highlight=False, width=None if os.isatty(1) else 10_000)

MARK = {True: Text("pass", style="green"), False: Text("FAIL", style="red")}
Cell = str | Text  # a string is printed as it is: a bracket in a file name is no markup


def say(line: str, style: str = "dim") -> None:
    """Print one message on standard error."""
    talk.print(Text(printable(line)), style=style, soft_wrap=True)


def print_path(path: Path) -> None:
    """Print the path of a written file on standard output, as it is for a pipe."""
    click.echo(printable(str(path)) if sys.stdout.isatty() else str(path))


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, align: Literal["left", "right"] = "right"
) -> None:
    """Print a table on standard output; columns after the first are aligned right, as numbers are, or left."""
    table = _table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else align, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    _print(title, table)


def print_facts(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table of text on standard output: no header, everything aligned left."""
    table = _table(header=False)
    for index, _ in enumerate(rows[0]):
        table.add_column(style="bold" if index == 0 else None, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    _print(title, table)


def _table(*, header: bool = True) -> Table:
    return Table(box=box.SIMPLE_HEAD if header else box.SIMPLE, show_header=header, pad_edge=False)


def _print(title: str, table: Table) -> None:
    """Print the title on a line of its own, so that a path in it is never folded."""
    results.print(Text(printable(title)), style="bold", soft_wrap=True)
    results.print(table)


def case_rows(cases: Sequence[CaseResult]) -> list[list[Cell]]:
    """Return parity cases as table rows; those of several outputs name their output next to the size."""
    several = len({case.output for case in cases}) > 1
    return [
        [
            f"{case.size}, {case.output}" if several else case.size,
            str(case.batch),
            case.note or _number(case.max),
            _number(case.mean),
            _share(case.agreement) if case.abs_rel is None else _number(case.abs_rel),
            _held(case) if case.held_to else MARK[case.passed],
        ]
        for case in cases
    ]


def _held(case: CaseResult) -> Cell:
    """Return the verdict of a case that has a limit of its own, with that limit."""
    verdict, limit = "pass" if case.passed else "FAIL", case.held_to
    return (
        f"{verdict}: limits {_number(limit.max)}, {_number(limit.mean)}, set by PyTorch's own loss"
        if limit
        else verdict
    )


PARITY_COLUMNS = ("size", "batch", "max / range", "mean / range", "AbsRel or agreement", "")


def accuracy_rows(found: AccuracyRecord) -> list[list[str]]:
    """Return accuracy and speed of a precision compared with FP32, as table rows."""
    rows = [["drift", f"{found.drift:.2%} from the fp32 output"]]
    if found.sqnr is not None:
        rows.append(["SQNR", f"{found.sqnr:.1f} dB"])
    if found.abs_rel and found.delta1:
        (before, after), (first, second) = found.abs_rel, found.delta1
        rows.append(["AbsRel", f"{before:.4f} → {after:.4f} ({found.change:+.2%})"])
        rows.append(["δ1", f"{100 * first:.1f} % → {100 * second:.1f} %"])
    if found.speedup:
        median, low, high = found.speedup
        rows.append(
            ["speed", f"{median:.2f} times fp32 with {found.runtime} on this machine (95 %: {low:.2f}-{high:.2f})"]
        )
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.4f} %"
