"""Markdown for the survey of software that is not ours; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, markdown, source

_PIPELINE = "transformers"  # runs photographs, not the golden images
_Row = Mapping[str, Any]


def _clients(result: Result, folder: str) -> str:
    data = result.data
    rows = [row for row in data["rows"] if row["client"] != _PIPELINE]
    clients = list(dict.fromkeys((row["client"], row["version"]) for row in rows))
    files = list(dict.fromkeys(row["file"] for row in rows))
    found = {(row["file"], row["client"], row["version"]): row for row in rows}
    messages = _messages(rows)
    table = TextTable(
        ("file", *(f"{client} {version}" for client, version in clients)),
        tuple((file, *(_cell(found.get((file, *client)), messages, _error) for client in clients)) for file in files),
    )
    above = ", ".join(f"{limit:g} in {name}" for name, limit in data["limits"].items())
    parts = [
        f"{data['processor']}. Mean error over the range of the output; bold is wrong (above {above}; in 8 bits "
        "four times the recorded error, if that is more). An empty cell was not run.\n",
        markdown(table),
        _numbered(messages),
        *_pipeline([row for row in data["rows"] if row["client"] == _PIPELINE]),
        source(result, folder),
    ]
    return "\n".join(part for part in parts if part)


def _messages(rows: Sequence[_Row]) -> list[str]:
    """Each message of a failure once; a cell refers to it by its number."""
    return list(dict.fromkeys(row["message"] for row in rows if "message" in row))


def _numbered(messages: Sequence[str]) -> str:
    return "".join(f"{number}. `{message}`\n" for number, message in enumerate(messages, 1))


def _cell(row: _Row | None, messages: Sequence[str], shown: Callable[[_Row], str]) -> str:
    """A cell of a matrix: empty, the number of a message, or what ``shown`` makes of a run that ended."""
    if row is None:
        return ""
    return f"fails ({messages.index(row['message']) + 1})" if "message" in row else shown(row)


def _error(row: _Row) -> str:
    error = f"{row['mean']:.1e}"
    return error if row["verdict"] == "right" else f"**{error}**"


def _third_party(result: Result, folder: str) -> str:
    rows = result.data["rows"]
    tools = list(dict.fromkeys((row["tool"], row["typed"], row["version"]) for row in rows))
    files = list(dict.fromkeys(row["file"] for row in rows))
    found = {(row["tool"], row["file"]): row for row in rows}
    messages = _messages(rows)
    table = TextTable(
        ("tool", "as its user types it", *files),
        tuple(
            (f"{tool} {version}", f"`{typed}`", *(_cell(found.get((tool, file)), messages, _verdict) for file in files))
            for tool, typed, version in tools
        ),
    )
    parts = [
        f"{result.data['processor']}. Right: an output agrees with PyTorch's golden tensors (a graph that a tool wrote "
        "is computed by ONNX Runtime). Works: a command that gives no output to compare ended without an error. An "
        "empty cell was not run.\n",
        markdown(table),
        _numbered(messages),
        source(result, folder),
    ]
    return "\n".join(part for part in parts if part)


def _verdict(row: _Row) -> str:
    return row["verdict"] if row["verdict"] != "wrong" else f"**wrong** ({row['mean']:.1e})"


def _pipeline(rows: Sequence[_Row]) -> list[str]:
    if not rows:
        return []
    lines = [f"{row['model']} by {row['mean']:.1e} in the mean and {row['max']:.1e} at most" for row in rows]
    return [
        f"transformers {rows[0]['version']}: its pipeline runs a photograph of 3:2. It stretches it to a square and "
        f"resizes with anti-aliasing, so it differs from `run`: {'; '.join(lines)}.\n"
    ]


CLIENT_KINDS: dict[str, Section] = {
    "clients": Section(
        "Files in other software",
        "`nox -s clients`: every precision of the shipped models, in software that is not ours, compared with PyTorch.",
        _clients,
    ),
    "third-party": Section(
        "Engines and tools of others, as their users meet them",
        "`nox -s clients`: files in the commands and calls that the manuals of these tools show.",
        _third_party,
    ),
}
