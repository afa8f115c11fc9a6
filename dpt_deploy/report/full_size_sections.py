"""Markdown for the exports of published networks at full size; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, machine, markdown, source

_HEADS = ("network", "checkpoint", "keys from", "export", "peak memory", "max error", "another size", "engine")
_Row = Mapping[str, Any]
_KEYS = {"written down": "the authors' code", "transformers": "transformers", "random": "no file"}
_OWN_MAP = "our key map"  # of rows that were recorded before the keys had been written down
_KEYS_NOTE = (
    "Keys from the authors' code are written down in `tests/support/`, dead tensors and buffers included; a folder of "
    "Hugging Face is written by transformers: there a wrong key map fails. Without a file, weights are drawn in the "
    "network itself.{}\n"
)
_OWN_NOTE = (
    " Keys from our key map are that map read backwards, without what the network does not use: such a row shows "
    "sizes, memory and engines, and nothing about the map."
)


def _full_sizes(result: Result, folder: str) -> str:
    data = result.data
    messages: list[str] = []
    rows = tuple(_cells(row, messages) for row in data["rows"])
    own = any(_keys_from(row) == _OWN_MAP for row in data["rows"])
    parts = [
        f"{machine(data['environment'])}; {data['recorded'][:10]}. Random weights: they have learned nothing. "
        "Errors are over the range of PyTorch's output. Seconds are those of the processor: the machine was busy with "
        "other work.\n",
        _KEYS_NOTE.format(_OWN_NOTE if own else ""),
        markdown(TextTable(_HEADS, rows)),
        "".join(f"{number}. `{message}`\n" for number, message in enumerate(messages, 1)),
        source(result, folder),
    ]
    return "\n".join(part for part in parts if part)


def _cells(row: _Row, messages: list[str]) -> tuple[str, ...]:
    export = row["export"]
    checkpoint = f"{row['keys']} tensors, {row['checkpoint_bytes'] / 1e9:.2f} GB" if row["keys"] else "none"
    if not export["done"]:
        return (row["network"], checkpoint, _keys_from(row), _refused(export, messages), "", "", "", "")
    verify, engine = row["verify"], row["engine"]
    return (
        row["network"],
        checkpoint,
        _keys_from(row),
        f"{export['processor_seconds']:.0f} s",
        f"{export['peak_bytes'] / 1e9:.2f} GB",
        f"{row['exported']['max']:.1e}",
        _verified(row) if verify["done"] else _refused(verify, messages),
        f"built at {engine['size']}" if engine["done"] else _refused(engine, messages),
    )


def _keys_from(row: _Row) -> str:
    return _KEYS.get(row.get("account", ""), _OWN_MAP)


def _verified(row: _Row) -> str:
    """The size that passed; a network of one size was tried with a batch of two instead of another size."""
    if row.get("only_size", False):
        return f"none: {row['size']} is the only one, passes with a batch of 2"
    if row["size"] == row["engine"].get("size"):
        return f"the same, {row['size']}, passes with a batch of 2"
    return f"passes at {row['size']}"


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
        "`python benchmarks/full_sizes.py`: synthetic checkpoints; their keys are from where the table says.",
        _full_sizes,
        compare=_engines,
    ),
}
