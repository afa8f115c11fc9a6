"""How each kind of result is shown on the page, as Markdown; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.report.bench_plot import plot_result
from dpt_deploy.report.bench_tables import (
    TimingTable,
    limits,
    parts_table,
    scaling_table,
    steps_table,
    steps_way,
    timing_table,
    upgraded,
)

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A recorded result: the name of its file, and what it holds."""

    name: str
    data: Data

    @property
    def picture(self) -> str:
        """The name of the picture that is drawn from it."""
        return Path(self.name).with_suffix(".svg").name


@dataclass(frozen=True)
class Section:
    """One kind of result: its title, what must be known to read any of them, and how one is shown.

    ``show`` is called with a result and the folder that links lead to; a missing key may raise. ``draw``, where a
    result has a picture, is called with what it holds and the file to write.
    """

    title: str
    about: str
    show: Callable[[Result, str], str]
    draw: Callable[[Data, Path], None] | None = None


def markdown(table: TimingTable) -> str:
    """A table with its first column and names aligned left, numbers right."""
    rule = ["---" if index == 0 or head == "contender" else "---:" for index, head in enumerate(table.heads)]
    lines = [table.heads, rule, *table.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def source(result: Result, folder: str) -> str:
    """The line that says which file the numbers come from."""
    return f"[{result.name}]({folder}/{result.name})\n"


def machine(environment: Data) -> str:
    """Processor, cores, GPUs and the versions that matter."""
    tools = environment["tools"]
    versions = [f"{name} {tools[name]}" for name in ("torch", "onnxruntime", "onnxruntime-gpu") if name in tools]
    return ", ".join([environment["processor"], f"{environment['cores']} cores", *environment["gpus"], *versions])


def _date(result: Result) -> str:
    """When it was recorded, else the date in the name of its file."""
    recorded = str(result.data.get("recorded", "")).partition("T")[0]
    found = re.search(r"-(\d{4})(\d{2})(\d{2})\.json$", result.name)
    return recorded or ("-".join(found.groups()) if found else "no date")


def _latency(result: Result, folder: str) -> str:
    data = upgraded(result.data)
    ceiling = f"{data['matrix_ceiling_gflop_per_second']:.0f} GFLOP/s"
    where = f"{machine(data['environment'])}; {_date(result)}"
    parts = [
        f"### {data['model']}\n\n{where}. Weights: {data['weights']}. Ceiling: {ceiling}.\n",
        markdown(timing_table(data)),
        "".join(f"- {line}\n" for line, _ in limits(data)),
        *_titled("Time against arithmetic, over the smallest size:", scaling_table(data)),
        *_titled("A run, part by part and in one:", parts_table(data)),
        *_titled(f"From {steps_way(data)}:", steps_table(data)),
        f"![time and memory over size]({folder}/{result.picture})\n",
        source(result, folder),
    ]
    return "\n".join(filter(None, parts))


def _titled(title: str, table: TimingTable | None) -> list[str]:
    return [f"{title}\n", markdown(table)] if table else []


def _export_memory(result: Result, folder: str) -> str:
    data = result.data
    facts = TimingTable(
        ("model", "weights", "peak", "peak over weights", "time", "torch", "recorded"),
        (
            (
                data["model"],
                f"{data['weights_bytes'] / 1e9:.2f} GB",
                f"{data['peak_bytes'] / 1e9:.2f} GB",
                f"{data['peak_over_weights']:.2f}",
                f"{data['seconds']:.0f} s",
                data["tools"]["torch"],
                _date(result),
            ),
        ),
    )
    return f"{markdown(facts)}\n{source(result, folder)}"


BENCH_KINDS: dict[str, Section] = {
    "latency": Section(
        "Latency",
        "Contenders take turns in one run; medians with 95 % bootstrap intervals. The last column is the median of\n"
        "the turn-by-turn ratios: it holds on a busy machine, where times drift. Memory is the peak of a fresh\n"
        "process beyond its libraries. The ceiling is the fastest float32 matrix product in the same run.",
        _latency,
        lambda data, path: plot_result(upgraded(data), path),
    ),
    "export-memory": Section("Memory of an export", "Peak resident set of the whole command.", _export_memory),
}
