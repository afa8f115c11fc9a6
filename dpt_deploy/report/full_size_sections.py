"""Markdown for the exports of published networks at full size; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, machine, markdown, source

_HEADS = ("network", "checkpoint", "export", "peak memory", "max error", "another size", "engine")
_Row = Mapping[str, Any]


def _full_sizes(result: Result, folder: str) -> str:
    data = result.data
    messages: list[str] = []
    rows = tuple(_cells(row, messages) for row in data["rows"])
    parts = [
        f"{machine(data['environment'])}; {data['recorded'][:10]}. Random weights: they have learned nothing. "
        "Errors are over the range of PyTorch's output. Seconds are those of the processor: the machine was busy with "
        "other work.\n",
        markdown(TextTable(_HEADS, rows)),
        "".join(f"{number}. `{message}`\n" for number, message in enumerate(messages, 1)),
        source(result, folder),
    ]
    return "\n".join(part for part in parts if part)


def _cells(row: _Row, messages: list[str]) -> tuple[str, ...]:
    export = row["export"]
    checkpoint = f"{row['keys']} tensors, {row['checkpoint_bytes'] / 1e9:.2f} GB"
    if not export["done"]:
        return (row["network"], checkpoint, _refused(export, messages), "", "", "", "")
    verify, engine = row["verify"], row["engine"]
    return (
        row["network"],
        checkpoint,
        f"{export['processor_seconds']:.0f} s",
        f"{export['peak_bytes'] / 1e9:.2f} GB",
        f"{row['exported']['max']:.1e}",
        f"passes at {row['size']}" if verify["done"] else _refused(verify, messages),
        f"built at {engine['size']}" if engine["done"] else _refused(engine, messages),
    )


def _refused(step: _Row, messages: list[str]) -> str:
    """The number of the message of a step that was not done."""
    if step["message"] not in messages:
        messages.append(step["message"])
    return f"refused ({messages.index(step['message']) + 1})"


def _engines(results: Sequence[Result]) -> str:
    """One line on the engines of all results."""
    rows = [row for result in results for row in result.data["rows"] if "engine" in row]
    built = [row["network"] for row in rows if row["engine"]["done"]]
    return f"TensorRT-RTX, without a GPU, built {len(built)} of {len(rows)}: {', '.join(built) or 'none'}.\n"


FULL_SIZE_KINDS: dict[str, Section] = {
    "full-sizes": Section(
        "Published networks at full size",
        "`python benchmarks/full_sizes.py`: synthetic checkpoints with the keys and shapes of the authors' files.",
        _full_sizes,
        compare=_engines,
    ),
}
