"""Markdown for each kind of result; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.jobs.bench.baseline import SLOWER
from dpt_deploy.report.bench_tables import (
    TextTable,
    limits,
    parts_table,
    scaling_table,
    steps_table,
    steps_way,
    timing_table,
    upgraded,
    versions_of,
)
from dpt_deploy.report.figures.bench_plot import plot_result

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A recorded result: the name of its file and its content."""

    name: str
    data: Data

    @property
    def picture(self) -> str:
        """File name of its picture."""
        return Path(self.name).with_suffix(".svg").name


@dataclass(frozen=True)
class Section:
    """The section of one kind of result: its title, an introduction, and functions that make its content.

    ``show(result, folder)`` returns the Markdown of a result, with links into ``folder``; a missing key may raise.
    ``draw(data, path)`` writes the picture of a result, if it has one. ``compare(results)`` returns Markdown about all
    results of the kind together.
    """

    title: str
    about: str
    show: Callable[[Result, str], str]
    draw: Callable[[Data, Path], None] | None = None
    compare: Callable[[Sequence[Result]], str] | None = None


def markdown(table: TextTable) -> str:
    """Format a table; the first column and names are aligned left, numbers right."""
    rule = ["---" if index == 0 or head == "candidate" else "---:" for index, head in enumerate(table.heads)]
    lines = [table.heads, rule, *table.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def source(result: Result, folder: str) -> str:
    """Link the file that the numbers come from."""
    return f"[{result.name}]({folder}/{result.name})\n"


def machine(environment: Data) -> str:
    """Describe processor, cores, GPUs and the relevant versions."""
    versions = versions_of(environment)
    return ", ".join([environment["processor"], f"{environment['cores']} cores", *environment["gpus"], *versions])


def _date(result: Result) -> str:
    """Date of the recording, or the date in the file name."""
    recorded = str(result.data.get("recorded", "")).partition("T")[0]
    found = re.search(r"-(\d{4})(\d{2})(\d{2})\.json$", result.name)
    return recorded or ("-".join(found.groups()) if found else "no date")


def _latency(result: Result, folder: str) -> str:
    data = upgraded(result.data)
    ceiling = f"{data['matrix_ceiling_gflop_per_second']:.0f} GFLOP/s"
    where = f"{machine(data['environment'])}; {_date(result)}"
    parts = [
        f"### {data['model']}\n\n{where}. Weights: {data['weights']}. Ceiling: {ceiling}.\n",
        "".join(f"- {line}\n" for line in _ratios(data)),
        markdown(timing_table(data)),
        "".join(f"- {line}\n" for line, _ in limits(data)),
        *_titled("Time and arithmetic relative to the smallest size:", scaling_table(data)),
        *_titled("Parts of a run, and the whole:", parts_table(data)),
        *_titled(f"From {steps_way(data)}:", steps_table(data)),
        f"![time and memory over size]({folder}/{result.picture})\n",
        source(result, folder),
    ]
    return "\n".join(filter(None, parts))


def _ratios(data: Data) -> list[str]:
    """A sentence for every other candidate at every size and batch."""
    return [
        f"{row['size']}, batch {row['batch']}: `{row['contender']}` takes {value[0]:.2f} ({value[1]:.2f} to "
        f"{value[2]:.2f}) times as long as `{key.removeprefix(SLOWER)}`."
        for row in data["rows"]
        for key, value in row.items()
        if key.startswith(SLOWER) and value
    ]


def _titled(title: str, table: TextTable | None) -> list[str]:
    return [f"{title}\n", markdown(table)] if table else []


def _export_memory(result: Result, folder: str) -> str:
    data = result.data
    facts = TextTable(
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


def _folder_speed(result: Result, folder: str) -> str:
    data = result.data
    rates, used, then = data["images_per_second"], data["processor_ms_per_image"], data["commit"]
    rows = tuple(
        (
            name,
            f"{rates[f'{what} {then}']:.1f}",
            f"{rates[f'{what} now']:.1f}",
            _median_of(data[f"{what}_speed_up"]),
            _median_of(data[f"{what}_share_of_network"]),
            f"{used[f'{what} {then}']:.0f}, {used[f'{what} now']:.0f}",
        )
        for what, name in (("folder", "folder of photographs"), ("video", "video"))
    )
    heads = ("input", f"images/s at {then}", "now", "times as many", "of the network alone", "processor ms/image")
    load = ", ".join(f"{value:.1f}" for value in data["load_average"])
    equal = f"The {data['equal_files']} files hold the same values{', the video the same bytes' * data['equal_video']}."
    return (
        f"### {data['model']}\n\n{data['processor']}, {data['cores']} cores, load average {load}; {_date(result)}. "
        f"{data['images']} images of {data['size']}, {data['turns']} turns; medians and quartiles. {equal}\n\n"
        f"{markdown(TextTable(heads, rows))}\n{source(result, folder)}"
    )


def _same_twice(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(
        (
            case["model"],
            str(case["size"]),
            name,
            f"{case['p50_ms'][name]:.1f} ms",
            _median_of(value),
            str(case["rounds"]),
        )
        for case in data["cases"]
        for name, value in case["ratio"].items()
    )
    heads = ("model", "size", "runtime", "time", "first over second", "rounds")
    spinning = "spin" if data["spinning_between_runs"] else "sleep"
    load = ", ".join(f"{value:.1f}" for value in data["load_average"])
    return (
        f"{machine(data['environment'])}, load average {load}; {_date(result)}. Threads of ONNX Runtime {spinning} "
        f"between runs. Medians and 95 % intervals.\n\n{markdown(TextTable(heads, rows))}\n{source(result, folder)}"
    )


def _median_of(values: Sequence[float]) -> str:
    middle, low, high = values
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


BENCH_KINDS: dict[str, Section] = {
    "latency": Section(
        "Latency",
        "All candidates run interleaved; times are medians with 95 % bootstrap intervals. The last column is the\n"
        "median of the ratios within each round. Unlike times, these ratios are stable on a busy machine. Memory is\n"
        "the peak of a fresh process, without its libraries. The ceiling is the fastest float32 matrix product in the\n"
        "same run. `ort` is the exported model in ONNX Runtime, `torch` is PyTorch eager, `hf-ort` is a plain export\n"
        "of the Hugging Face model in ONNX Runtime.",
        _latency,
        lambda data, path: plot_result(upgraded(data), path),
    ),
    "folder-speed": Section(
        "Folders and videos",
        "`python benchmarks/folder_speed.py COMMIT`: `run` as it is and as it was at a commit, by turns.",
        _folder_speed,
    ),
    "same-twice": Section(
        "One model as two candidates",
        "`python benchmarks/same_twice.py`: one file in two sessions, next to PyTorch. A ratio other than 1 would\n"
        "be a bias of the benchmark.",
        _same_twice,
    ),
    "export-memory": Section(
        "Memory of an export",
        "`python benchmarks/export_memory.py`: peak resident set of the whole command.",
        _export_memory,
    ),
}
