"""Tables of a benchmark in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from dpt_deploy.cli.shared.output import print_table, results
from dpt_deploy.report.bench_tables import (
    TextTable,
    limits,
    parts_table,
    scaling_table,
    steps_table,
    steps_way,
    timing_table,
)


def print_timing(title: str, result: Any) -> None:
    """Print the timing table, the scaling with size, and the steps of one photograph, as far as they were measured."""
    data = result.to_dict()
    ceiling = data["matrix_ceiling_gflop_per_second"]
    _print(f"{title}; ceiling {ceiling:.0f} GFLOP/s", timing_table(data))
    for line, enough in limits(data):
        results.print(Text(line), style="dim" if enough else "yellow", soft_wrap=True)
    results.print()
    if growth := scaling_table(data):
        _print("growth of time and arithmetic, relative to the smallest size", growth)
    if parts := parts_table(data):
        _print("parts of a run, timed alone and together", parts)
    if steps := steps_table(data):
        _print(f"from {steps_way(data)}", steps)


def _print(title: str, table: TextTable) -> None:
    print_table(title, table.heads, table.rows)


def print_serving(title: str, levels: Sequence[Mapping[str, Any]]) -> None:
    """Print the throughput of a model server at each number of clients."""
    columns = ["clients", "requests/s", "p50 ms", "p99 ms", "answers", "failed", "wrong"]
    rows = [
        [
            str(level["concurrency"]),
            f"{level['requests_per_second']:.1f}",
            *("-" if level[key] is None else f"{level[key]:.1f}" for key in ("p50_ms", "p99_ms")),
            *(str(level[key]) for key in ("requests", "failed", "wrong")),
        ]
        for level in levels
    ]
    print_table(title, columns, rows)
