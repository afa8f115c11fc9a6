"""Figure of a benchmark: time over image size, time per arithmetic, memory (matplotlib, no display).

It takes the document that ``dpt-deploy bench`` writes. Colours are those of Okabe and Ito; every line is labelled at
its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.report.bench_tables import digits, versions_of
from dpt_deploy.report.style import INK, QUIET, RULE, STYLE
from dpt_deploy.runtime.registry import RUNTIMES

Data = Mapping[str, Any]
Point = tuple[float, float, float]  # value, and the ends of its 95 % interval

# Name in the plot, colour and marker of each candidate that is not a runtime; those have theirs in their records.
_LOOKS = {
    "hf-ort": ("Hugging Face export", "#009e73", "^"),
    "torch-compile": ("PyTorch compiled", "#cc79a7", "D"),
}
_OTHER = ("#e69f00", "v")
_DASHES = ("solid", (0, (5, 2)), (0, (2, 2)), (0, (1, 2)))  # by batch
_HEAD = 0.62  # inches above the panels
_LINE = 0.15  # inches of a further line of the subtitle
_CHARACTERS_AN_INCH = 15  # of the subtitle
_GAP = 0.068  # minimal distance of two labels, as a share of the panel's height
_STYLE: Any = {**STYLE, "axes.labelcolor": QUIET}


@dataclass(frozen=True, eq=False)
class _Series:
    """One candidate at one batch: its rows, smallest size first."""

    name: str
    colour: str
    marker: str
    dash: Any
    rows: tuple[Data, ...]


@dataclass(frozen=True)
class _Panel:
    """A panel: its title with the unit, a note below it, and a function from a row to its point (None: no point)."""

    title: str
    note: str
    point: Callable[[Data], Point | None]


def draw_latency(result: Data, path: Path) -> None:
    """Draw one result to ``path`` in the format of its suffix.

    With several sizes, the panels show time over size, and time per arithmetic compared with the machine's ceiling.
    With one size, there is a panel of time only. Memory has a panel if it was measured.

    Raises:
        ResourceError: the file cannot be written.
    """
    series = _series(result["rows"])
    sizes = _sizes(result["rows"])
    over = _over_sizes if len(sizes) > 1 else _side_by_side
    panels: list[Callable[[Any], None]] = [lambda axes: over(axes, series, _time(result["rows"]))]
    if len(sizes) > 1:
        panels.append(lambda axes: _per_operation(axes, series, result))
    if any(map(_peak_bytes, result["rows"])):
        panels.append(lambda axes: over(axes, series, _memory(result["rows"])))
    height = 4.9 if len(sizes) > 1 else 2.5 + 0.4 * len(series)
    with mpl.rc_context(_STYLE):
        width = (3.7 + 0.09 * max(len(entry.name) for entry in series)) * len(panels)
        lines = wrap(_subtitle(result), int((width - 0.32) * _CHARACTERS_AN_INCH))
        head = _HEAD + _LINE * (len(lines) - 1)
        height += head - _HEAD
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.1, rect=(0, 0, 1, 1 - head / height))
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            panel(axes)
        _head(figure, result["model"], lines, height)
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
        with atomic_path(path) as temporary, write_errors(path):
            figure.savefig(temporary, dpi=200, metadata=metadata)


def _series(rows: Sequence[Data]) -> list[_Series]:
    batches = sorted({row["batch"] for row in rows})
    members: dict[tuple[str, int], list[Data]] = {}
    for row in sorted(rows, key=lambda row: float(row["gflop"])):
        members.setdefault((str(row["contender"]), row["batch"]), []).append(row)
    found = []
    for (candidate, batch), own in members.items():
        name, colour, marker = _look(candidate)
        name += "" if len(batches) == 1 else f", batch {batch}"
        found.append(_Series(name, colour, marker, _DASHES[batches.index(batch) % len(_DASHES)], tuple(own)))
    return found


def _look(candidate: str) -> tuple[str, str, str]:
    """Name, colour and marker of a candidate."""
    if runtime := RUNTIMES.get(candidate):
        return runtime.label, runtime.colour, runtime.marker
    return _LOOKS.get(candidate, (candidate, *_OTHER))


def _sizes(rows: Sequence[Data]) -> list[str]:
    """Names of the sizes, in ascending order of arithmetic per image."""
    work = {str(row["size"]): row["gflop"] / row["batch"] for row in rows}
    return sorted(work, key=lambda size: work[size])


def _time(rows: Sequence[Data]) -> _Panel:
    """Panel of time, in milliseconds or seconds."""
    long = max(row["p50_ms"] for row in rows) > 3000
    scale = 1e-3 if long else 1.0

    def point(row: Data) -> Point:
        low, high = row["interval_ms"]
        return row["p50_ms"] * scale, low * scale, high * scale

    return _Panel(f"Latency [{'s' if long else 'ms'}]", "median and its 95 % interval; lower is better", point)


def _peak_bytes(row: Data) -> float | None:
    return (row.get("memory") or {}).get("peak_bytes")


def _memory(rows: Sequence[Data]) -> _Panel:
    """Panel of memory, in megabytes or gigabytes."""
    large = max(_peak_bytes(row) or 0 for row in rows) > 3e9
    scale = 1e-9 if large else 1e-6

    def point(row: Data) -> Point | None:
        peak = _peak_bytes(row)
        return None if peak is None else (peak * scale,) * 3

    note = "of a fresh process, beyond its libraries; lower is better"
    return _Panel(f"Peak memory [{'GB' if large else 'MB'}]", note, point)


def _over_sizes(axes: Any, series: Sequence[_Series], panel: _Panel) -> None:
    """Draw a line per series over evenly spaced sizes."""
    sizes = _sizes([row for entry in series for row in entry.rows])
    ends = {}
    for entry in series:
        points = [(sizes.index(str(row["size"])), point) for row in entry.rows if (point := panel.point(row))]
        if points:
            ends[entry] = points[-1][1][0]
            _line(axes, entry, [place for place, _ in points], [point for _, point in points])
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlim(-0.12, len(sizes) - 1)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.06)
    axes.set_xlabel("image size [pixels]")
    _dress(axes, panel)
    _name(axes, ends)


def _line(axes: Any, entry: _Series, places: Sequence[float], points: Sequence[Point]) -> None:
    values = [value for value, _, _ in points]
    spread = [[value - low for value, low, _ in points], [high - value for value, _, high in points]]
    look = {"color": entry.colour, "linestyle": entry.dash, "marker": entry.marker}
    bars = axes.errorbar(
        places, values, spread, **look, linewidth=1.9, markersize=6, elinewidth=1.3, capsize=3, clip_on=False, zorder=3
    )
    for part in (*bars[1], *bars[2]):
        part.set_clip_on(False)


def _per_operation(axes: Any, series: Sequence[_Series], result: Data) -> None:
    """Draw time per arithmetic: flat if time grows in proportion, high if the machine is idle."""

    def point(row: Data) -> Point:
        low, high = row["interval_ms"]
        return row["p50_ms"] / row["gflop"], low / row["gflop"], high / row["gflop"]

    note = "flat: time grows in step with arithmetic; lower is better"
    _over_sizes(axes, series, _Panel("Time for a unit of arithmetic [ms/GFLOP]", note, point))
    best = 1e3 / result["matrix_ceiling_gflop_per_second"]
    axes.axhline(best, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    place = {"xytext": (6, -4), "textcoords": "offset points", "va": "top"}
    axes.annotate("a large matrix product", (0, best), **place, fontsize=9, color=QUIET, bbox=ground)
    rows = {str(row["size"]): row for row in result["rows"]}
    sizes = _sizes(result["rows"])
    axes.set_xticks(range(len(sizes)), [_arithmetic(rows[size]) for size in sizes])
    axes.set_xlabel("image size [pixels]; GFLOP of it; attention's share")


def _arithmetic(row: Data) -> str:
    return f"{row['size']}\n{digits(row['gflop'] / row['batch'])}\n{100 * row['attention_share']:.1f} %"


def _side_by_side(axes: Any, series: Sequence[_Series], panel: _Panel) -> None:
    """Draw a dot with its interval per series, for a single size."""
    for place, entry in enumerate(reversed(series)):
        point = panel.point(entry.rows[0])
        if point:
            value, low, high = point
            axes.plot((0, value), (place, place), color=entry.colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
            axes.plot((low, high), (place, place), color=entry.colour, linewidth=1.6, zorder=3)
            axes.plot(value, place, marker=entry.marker, color=entry.colour, markersize=7, zorder=4)
            axes.annotate(digits(value), (high, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(series)), [entry.name for entry in reversed(series)], color=INK)
    axes.set_ylim(-0.6, len(series) - 0.4)
    axes.set_xlim(left=0)
    axes.margins(x=0.14)
    _dress(axes, panel, along="x")
    axes.spines["left"].set_visible(False)


def _dress(axes: Any, panel: _Panel, *, along: str = "y") -> None:
    axes.set_title(panel.title, loc="left", fontsize=11, color=INK, pad=20)
    axes.text(0, 1.025, panel.note, transform=axes.transAxes, fontsize=9, color=QUIET, va="bottom")
    axes.grid(axis=along, color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _name(axes: Any, ends: Mapping[_Series, float]) -> None:
    """Label the lines at their right ends, moved apart if they would overlap, and not above the panel."""
    low, high = axes.get_ylim()
    entries = sorted(ends, key=lambda entry: ends[entry])
    places = _apart([(ends[entry] - low) / (high - low) for entry in entries])
    for entry, place in zip(entries, places, strict=True):
        axes.annotate(
            entry.name,
            (1, place),
            (11, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=entry.colour,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _apart(places: Sequence[float]) -> list[float]:
    """Move ascending places apart by ``_GAP``, down from the top and then up from the bottom."""
    found = list(places)
    for index in reversed(range(len(found))):
        ceiling = 1.0 if index == len(found) - 1 else found[index + 1] - _GAP
        found[index] = min(found[index], ceiling)
    for index in range(len(found)):
        floor = 0.0 if index == 0 else found[index - 1] + _GAP
        found[index] = max(found[index], floor)
    return found


def _subtitle(result: Data) -> str:
    """The machine, the versions and the weights."""
    machine = result["environment"]
    versions = versions_of(machine)
    date = str(result.get("recorded", "")).partition("T")[0]
    where = f"{machine['processor']}, {machine['cores']} cores"
    return ", ".join([where, *versions, f"weights: {result['weights']}", *([date] if date else [])])


def _head(figure: Any, model: str, lines: Sequence[str], height: float) -> None:
    """Write the model and the subtitle above the panels."""
    place = 0.16 / figure.get_figwidth()
    figure.text(place, 1 - 0.12 / height, model, fontsize=13, fontweight="bold", va="top")
    figure.text(place, 1 - 0.37 / height, "\n".join(lines), fontsize=9, color=QUIET, va="top")
