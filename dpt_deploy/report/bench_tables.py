"""Tables of a recorded benchmark as text, for the terminal and for Markdown.

Every function takes the document that ``dpt-deploy bench`` writes; older versions of it are accepted, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpt_deploy.jobs.bench.baseline import SLOWER, slower
from dpt_deploy.measure.scaling import scaling

Data = Mapping[str, Any]
Column = tuple[str, Callable[[Data], str]]


@dataclass(frozen=True)
class TextTable:
    """Column heads and the cells of each row."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def upgraded(data: Data) -> dict[str, Any]:
    """Bring a latency result of any version to the current keys; missing measurements stay empty."""
    rows = [{"memory": None, **row, "p50_ms": row.get("p50_ms", row.get("median_ms"))} for row in data["rows"]]
    # Results without "cases" predate the record of the limit that ended a run.
    return {"cases": [], "recorded": "", "photograph": "", "end_to_end_with": "ort", **data, "rows": rows}


def timing_table(data: Data) -> TextTable:
    """Make the table of all rows, without columns that are empty or equal in all of them."""
    rows = data["rows"]
    held = [row["memory"] or {} for row in rows]
    absent = {
        "batch": all(row["batch"] == 1 for row in rows),
        "memory": not any(held),
        "GPU memory": not any(memory.get("device_peak_bytes") for memory in held),
    }
    columns = [column for column in _TIMING if not absent.get(column[0])]
    return _table([*columns, (_head(rows), _against)], rows)


def scaling_table(data: Data) -> TextTable | None:
    """Make the table of the growth of time and arithmetic; None if there is one size only."""
    rows = {(row["contender"], row["batch"], row["size"]): row for row in data["rows"]}
    steps = [
        {**rows[step.candidate, step.batch, step.size], "work": step.operations, "time": step.time}
        for step in scaling(data["rows"])
    ]
    return _table(_SCALING, steps) if steps else None


def steps_way(data: Data) -> str:
    """Describe the path that :func:`steps_table` covers."""
    return f"{data['photograph']} to its depth map, with {data['end_to_end_with']}"


def steps_table(data: Data) -> TextTable | None:
    """Make the table of the steps from a file to its map (medians, one row per size); None if not measured."""
    sizes: Mapping[str, Data] = data["end_to_end_ms"]
    if not sizes:
        return None
    names = list(next(iter(sizes.values())))
    rows = []
    for size, steps in sizes.items():
        whole = sum(steps.values())
        around = f"{100 * (1 - steps['model'] / whole):.1f} %"
        rows.append((size, *(digits(steps[name]) for name in names), digits(whole), around))
    return TextTable(("size", *(f"{name} ms" for name in names), "total ms", "outside the model"), tuple(rows))


def parts_table(data: Data) -> TextTable | None:
    """Make the table of the parts of a run, timed one by one, and of the whole; None if no candidate has parts."""
    rows = [row for row in data["rows"] if row.get("parts_ms")]
    if not rows:
        return None
    names = list(rows[0]["parts_ms"])
    cells = [
        (
            str(row["contender"]),
            str(row["size"]),
            *(digits(row["parts_ms"][name]) for name in names),
            digits(sum(row["parts_ms"].values())),
            digits(row["p50_ms"]),
        )
        for row in rows
    ]
    return TextTable(("candidate", "size", *(f"{name} ms" for name in names), "sum ms", "whole run ms"), tuple(cells))


def limits(data: Data) -> list[tuple[str, bool]]:
    """Return a line about the rounds of each size, and whether there were enough."""
    found = []
    for case in data["cases"]:
        ended = "the number of rounds" if case["ended_by"] == "rounds" else "the time limit"
        which = f"{case['size']}, batch {case['batch']}"
        text = f"{which}: {case['rounds']} rounds in {case['seconds']:.3g} s, ended by {ended}"
        few = "; fewer than 30, so p90 and p99 are unreliable"
        found.append((text if case["enough_rounds"] else text + few, bool(case["enough_rounds"])))
    return found


def versions_of(environment: Data) -> list[str]:
    """Name the libraries that were timed, with their versions."""
    tools = environment["tools"]
    return [f"{name} {tools[name]}" for name in ("torch", "onnxruntime", "onnxruntime-gpu") if name in tools]


def digits(value: float) -> str:
    """Format a number with three digits, or with all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _memory(row: Data, key: str) -> str:
    held = row["memory"] or {}
    if held.get("error"):
        return "failed"
    return f"{held[key] / 1e6:.0f} MB" if held.get(key) is not None else "-"


def _head(rows: Sequence[Data]) -> str:
    keys = (key for row in rows for key in row if key.startswith(SLOWER))
    return next(keys, f"{SLOWER}ort").replace("_", " ")


def _against(row: Data) -> str:
    found = slower(row)
    if found is None:
        return "-"
    middle, low, high = found
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


_TIMING: tuple[Column, ...] = (
    ("size", lambda row: str(row["size"])),
    ("batch", lambda row: str(row["batch"])),
    ("candidate", lambda row: str(row["contender"])),
    ("p50 ms", lambda row: digits(row["p50_ms"])),
    ("95 % interval", lambda row: " to ".join(map(digits, row["interval_ms"]))),
    ("p90", lambda row: digits(row["p90_ms"])),
    ("p99", lambda row: digits(row["p99_ms"])),
    ("runs", lambda row: str(row["samples"])),
    ("images/s", lambda row: digits(row["images_per_second"])),
    ("memory", lambda row: _memory(row, "peak_bytes")),
    ("GPU memory", lambda row: _memory(row, "device_peak_bytes")),
    ("of ceiling", lambda row: _percent(row["share_of_ceiling"])),
)
_SCALING: tuple[Column, ...] = (
    ("candidate", lambda row: row["contender"] if row["batch"] == 1 else f"{row['contender']}, batch {row['batch']}"),
    ("size", lambda row: str(row["size"])),
    ("GFLOP", lambda row: digits(row["gflop"])),
    ("attention", lambda row: f"{100 * row['attention_share']:.1f} %"),
    ("p50 ms", lambda row: digits(row["p50_ms"])),
    ("GFLOP/s", lambda row: digits(row["gflop_per_second"])),
    ("of ceiling", lambda row: _percent(row["share_of_ceiling"])),
    ("work grew", lambda row: f"{row['work']:.2f} x"),
    ("time grew", lambda row: f"{row['time']:.2f} x"),
)


def _table(columns: Sequence[Column], rows: Sequence[Data]) -> TextTable:
    cells = tuple(tuple(cell(row) for _, cell in columns) for row in rows)
    return TextTable(tuple(name for name, _ in columns), cells)
