"""Sections on costs: fewer tokens, one file with two outputs or two files, studies, loading, traces, compiled graphs.

See :mod:`dpt_deploy.report.benchmark_page`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.drawing import lazy_drawing
from dpt_deploy.report.sections import Result, Section, machine, markdown, source


def _tokens(result: Result, folder: str) -> str:
    data = result.data
    accuracy, speed = data["accuracy"], data["speed"]
    scored = TextTable(("tokens", "AbsRel", "change", "GFLOP"), tuple(map(_scored, accuracy["rows"])))
    timed = TextTable(("size", "tokens", "ms", "times as fast", "GFLOP", "rounds"), tuple(map(_timed, speed["rows"])))
    load = ", ".join(f"{value:.1f}" for value in data["load_average_before"])
    about = f"{machine(data['environment'])}, load average {load} before; {data['recorded'][:10]}.\n"
    picture = f"![change of the error, and speed]({folder}/{result.picture})\n"
    first = f"`{accuracy['model']}`, error on {accuracy['scenes']} rendered scenes:\n\n{markdown(scored)}"
    second = f"`{speed['model']}` with {speed['weights']} weights, time:\n\n{markdown(timed)}"
    return "\n".join((about, picture, first, second, source(result, folder)))


def _scored(row: Mapping[str, Any]) -> tuple[str, ...]:
    error, change = row["abs_rel"], row["change_percent"]
    grown = (
        "-" if row["file"] == "exact" else f"{change['value']:+.2f} % ({change['low']:+.2f} to {change['high']:+.2f})"
    )
    interval = f"{error['value']:.4f} ({error['low']:.4f} to {error['high']:.4f})"
    return row["file"], interval, grown, f"{row['gflop']:.2f}"


def _timed(row: Mapping[str, Any]) -> tuple[str, ...]:
    value, low, high = row["times_as_fast"]
    times = "-" if row["file"] == "exact" else f"{value:.2f} ({low:.2f} to {high:.2f})"
    return row["size"], row["file"], f"{row['ms']:.0f}", times, f"{row['gflop']:.0f}", str(row["rounds"])


def _joint_cost(result: Result, folder: str) -> str:
    data, case = result.data, result.data["case"]
    times, operations = case["p50_ms"], case["operations"]
    middle, low, high = case["two_files_over_joint"]
    both, two = (
        f"{value / 1e9:.1f}" for value in (operations["both"], operations["depth"] + operations["segmentation"])
    )
    rows = (
        ("one file with both outputs", f"{times['joint']:.0f}", both, ""),
        ("two files", f"{times['two files']:.0f}", two, f"{middle:.2f} ({low:.2f} to {high:.2f})"),
    )
    heads = ("candidate", "ms", f"GFLOP at {case['operations_at']}", "times the time of one file")
    load = ", ".join(f"{value:.1f}" for value in data["load_average"]["before"])
    return (
        f"### {case['model']}\n\n{machine(data['environment'])}, load average {load} before; {data['recorded'][:10]}. "
        f"Size {case['size']}, weights {case['weights']}, {case['rounds']} rounds.\n\n"
        f"![time and operations of two files over one]({folder}/{result.picture})\n\n"
        f"{markdown(TextTable(heads, rows))}\n{source(result, folder)}"
    )


def _joint_accuracy(result: Result, folder: str) -> str:
    data, blind = result.data, result.data["most_frequent_class"]
    rows = [_joint_row(row) for row in data["rows"]]
    rows.append(("the most frequent class everywhere", "", *(_percent(blind[key]) for key in ("correct", "mean_iou"))))
    heads = ("precision", "AbsRel", "correct pixels, %", "mIoU, %")
    changes = [_joint_row(row["change"] | {"precision": row["precision"]}, "+") for row in data["rows"][1:]]
    parts = [
        f"`{data['model']}` on {data['scenes']} rendered scenes from number {data['seed']} on. "
        f"{machine(data['environment'])}; {data['recorded'][:10]}.\n",
        f"![images, and true and predicted maps]({folder}/{Path(result.name).with_suffix('.png')})\n",
        markdown(TextTable(heads, tuple(rows))),
        f"Minus FP32, on the same images:\n\n{markdown(TextTable(heads, tuple(changes)))}" if changes else "",
        source(result, folder),
    ]
    return "\n".join(filter(None, parts))


def _joint_row(row: Mapping[str, Any], sign: str = "") -> tuple[str, ...]:
    value, low, high = (f"{row['abs_rel'][key]:{sign}.4f}" for key in ("value", "low", "high"))
    return (
        row["precision"],
        f"{value} ({low} to {high})",
        *(_percent(row[key], sign) for key in ("correct", "mean_iou")),
    )


def _percent(share: Mapping[str, float], sign: str = "") -> str:
    value, low, high = (f"{100 * share[key]:{sign}.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _study_seconds(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(
        (
            row["study"],
            f"`dpt-deploy {row['command']}`",
            f"{row['seconds'] / 60:.1f} min" if row["exit_code"] == 0 else f"exit code {row['exit_code']}",
            f"{row['processor_seconds'] / 60:.1f} min",
            f"{row['peak_bytes'] / 1e9:.2f} GB",
            f"{row['load_average_before']:.1f}",
        )
        for row in data["rows"]
    )
    heads = ("study", "command", "time", "of processors", "peak memory", "load average before")
    about = f"{machine(data['environment'])}; {data['recorded'][:10]}.\n"
    return "\n".join((about, markdown(TextTable(heads, rows)), source(result, folder)))


def _load_time(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(map(_loaded, data["rows"]))
    heads = ("model", "precision", "size", "load", "without", "loads as fast", "memory", "without", "runs as fast")
    about = (
        f"{_before(data)} Medians of {data['turns']} loads each. FP16 is emulated, as in every export; its time\n"
        "includes writing the copy.\n"
    )
    return "\n".join((about, markdown(TextTable(heads, rows)), source(result, folder)))


def _before(data: Mapping[str, Any]) -> str:
    load = ", ".join(f"{value:.1f}" for value in data["load_average_before"])
    return f"{machine(data['environment'])}, load average {load} before; {data['recorded'][:10]}."


def _loaded(row: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, peak = row["load_seconds"], row["peak_bytes"]
    loads, runs = ("{:.2f} ({:.2f} to {:.2f})".format(*row[key]) for key in ("loads_as_fast", "runs_as_fast"))
    return (
        row["model"],
        row["precision"],
        str(row["size"]),
        *(f"{seconds[way]:.2f} s" for way in ("planned", "unplanned")),
        loads,
        *(f"{peak[way] / 1e6:.0f} MB" for way in ("planned", "unplanned")),
        runs if row["equal"] else "other numbers",
    )


def _trace_time(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(
        (
            row["model"],
            f"{row['seconds']['pytorch']:.1f} s",
            f"{row['seconds']['replaced']:.1f} s",
            "{:.2f} ({:.2f} to {:.2f})".format(*row["as_fast"]) if row["equal"] else "other numbers",
            *(str(row["nodes"][way]) for way in ("pytorch", "replaced")),
        )
        for row in data["rows"]
    )
    heads = ("model", "decomposed by PyTorch", "replaced", "as fast", "nodes, by PyTorch", "nodes, replaced")
    return "\n".join((f"{_before(data)}\n", markdown(TextTable(heads, rows)), source(result, folder)))


def _openvino_graphs(result: Result, folder: str) -> str:
    rows = result.data["rows"]
    kinds = tuple(dict.fromkeys(kind for row in rows for kind in row["profile_ms"]))
    timed = TextTable(
        ("model", "precision", "size", "rest", "one size", "any size", "times as fast", "rounds"),
        tuple(
            (
                *map(str, (row["model"], row["precision"], row["size"], row["rest"])),
                *(f"{row['p50_ms'][way]:.1f} ms" for way in ("one size", "any size")),
                "{:.2f} ({:.2f} to {:.2f})".format(*row["times_as_fast"]),
                str(row["rounds"]),
            )
            for row in rows
        ),
    )
    profiled = TextTable(
        ("model", "precision", "size", "rest", *kinds),
        tuple(
            (
                *map(str, (row["model"], row["precision"], row["size"], row["rest"])),
                *(f"{row['profile_ms'].get(kind, 0):.1f} ms" for kind in kinds),
            )
            for row in rows
        ),
    )
    about = f"{_before(result.data)}\n"
    between = "Time by kinds of operators, in the graph for one size:\n"
    return "\n".join((about, markdown(timed), between, markdown(profiled), source(result, folder)))


COST_KINDS: dict[str, Section] = {
    "tokens": Section(
        "Fewer tokens: clustered or merged, compared with the exact network",
        "`python benchmarks/tokens.py`: `tokens-hard 4:16x16` is `export --tokens 4:16x16`, and `tokens-merge 4:50%`\n"
        "is `--tokens 4:50%`. The error is that of trained weights, its change is paired, with 95 % intervals\n"
        "(bootstrap over images). The time is that of ONNX Runtime in FP32, interleaved with the exact file; its\n"
        "ratio is the median of the ratios within each round, with its 95 % interval.",
        _tokens,
        lazy_drawing("dpt_deploy.report.figures.cost_figure:draw_tokens"),
    ),
    "joint-cost": Section(
        "Depth and labels from one file or from two",
        "`python benchmarks/joint_cost.py`: one call of the joint file takes turns with one call of each single file,\n"
        "in ONNX Runtime, FP32. The ratio is the median of the ratios within each round, with its 95 % interval.",
        _joint_cost,
        lazy_drawing("dpt_deploy.report.figures.cost_figure:draw_joint_cost"),
    ),
    "joint-accuracy": Section(
        "Depth and labels from one file: accuracy",
        "`python benchmarks/joint_accuracy.py`: the shipped network for both tasks on scenes with exact depth and\n"
        "labels. AbsRel follows the paper's zero-shot protocol; mIoU is the intersection over union, averaged over\n"
        "the classes. Intervals are 95 % (bootstrap over images; changes are paired).",
        _joint_accuracy,
    ),
    "study-seconds": Section(
        "How long the studies of robustness take",
        "`python benchmarks/study_seconds.py FOLDER`: one command after the other, in empty folders, without a\n"
        "network.",
        _study_seconds,
    ),
    "load-time": Section(
        "How long ONNX Runtime takes to load a file",
        "`python benchmarks/load_time.py`: with ONNX Runtime's plan for buffers, and without it, as the runner of\n"
        "this package loads. Every load is a new process; the memory is its peak after one run. The ratio of loads is\n"
        "the median of the pairs, with quartiles; that of runs the median within each round, with its 95 % interval.\n"
        "The outputs are equal bit for bit.",
        _load_time,
    ),
    "trace-time": Section(
        "How long a network takes to become a graph",
        "`python benchmarks/trace_time.py`: from a module with random weights to an FP32 graph of any size, by turns\n"
        "in one process. Once PyTorch decomposes the program, which means a second trace; once the operators were\n"
        "replaced before, as every export does it. The times are those of all threads, medians of the rounds; the\n"
        "ratio is the median of the rounds, with the smallest and the largest. The outputs are equal bit for bit.",
        _trace_time,
    ),
    "openvino-graphs": Section(
        "Graphs of OpenVINO for one size and for any size",
        "`python benchmarks/openvino_graphs.py`: the runner compiles a graph for each of the first two sizes, and one\n"
        "for all others (decision 61). Both are interleaved, for half of the time in each order of opening; the ratio\n"
        "is the median of the rounds, with its 95 % interval. What is not quantised (the rest) is in the type shown.\n"
        "The time by kinds is OpenVINO's own profile.",
        _openvino_graphs,
    ),
}
