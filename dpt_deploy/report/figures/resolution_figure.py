"""The paper's Figure 4: loss and error over inference resolution, and the differences (matplotlib, no display).

A model keeps its colour in every precision; precisions differ in line style and marker. The colours are those of Okabe
and Ito, which colour-blind readers can distinguish; markers and labels differ, too. In the SVG of a page every colour
is a custom property, so the page's light or dark theme applies.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.jobs.study.outcome import Study
from dpt_deploy.jobs.study.resolution import PAPER_RATIO, Curve
from dpt_deploy.measure.bootstrap import Estimate
from dpt_deploy.report.style import INK, QUIET, RULE, SHADE, STYLE

Panel = Literal["loss", "error"]
PANELS: tuple[Panel, ...] = ("loss", "error")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe-Ito; black is the control's
MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (7, 2, 1, 2, 1, 2)))
_CONTROL_DASH = (0, (4, 2.5))
_TITLES = {"loss": "Performance decrease [%]", "error": "AbsRel, mean over images"}
_NOTES = {"loss": "relative to the training size; lower is better", "error": "lower is better"}
_VARIABLES = {INK: "--ink", QUIET: "--quiet", RULE: "--rule", SHADE: "--shade"}
_VARIABLES.update({colour: f"--series-{index}" for index, colour in enumerate(COLOURS)})
# Changes to matplotlib's SVG: no fixed size, no ids of groups, unique ids of references, the page's fonts.
_THEME = (
    (r'^(<svg[^>]*?) width="[^"]*"', r"\1"),
    (r'^(<svg[^>]*?) height="[^"]*"', r"\1"),
    (r'<g id="[^"]*"', "<g"),
    (r'(id="|href="#|url\(#)([mp][0-9a-f]{10})', r"\1NAME-\2"),
    (r"font-family: [^;\"]*", "font-family: var(--sans)"),
    (r"font: ([\w ]*?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)"),  # matplotlib before 3.11
)
_GAP = 0.062  # minimal distance of two labels, as a share of the panel's height
_STYLE: Any = {**STYLE, "axes.labelcolor": INK, "axes.spines.left": False}


@dataclass(frozen=True)
class Line:
    """One candidate of the figure; a ``control`` is drawn in ink. The first precision of a model ``leads``: its
    interval is shaded and its end is labelled with ``name``."""

    curve: Curve
    name: str
    colour: str
    marker: str
    dash: Any = "solid"
    control: bool = False
    leads: bool = True


@dataclass(frozen=True)
class Chart:
    """Content of the figure: lines over ``ticks`` (ratio to the training size, label). If there are several
    ``precisions``, each has a name, a line style and a marker."""

    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    precisions: tuple[tuple[str, Any, str], ...] = ()


@dataclass(frozen=True)
class Difference:
    """A row of the differences: label, estimate and colour."""

    label: str
    estimate: Estimate
    colour: str


def chart(study: Study) -> Chart:
    """Make the chart of a study."""
    tints = colours(study)
    names = list(dict.fromkeys(candidate.precision for candidate in study.models))
    several = len(names) > 1
    precisions = {name: (_DASHES[i % len(_DASHES)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    lines: list[Line] = []
    for index, candidate in enumerate(study.models):
        dash, marker = precisions[candidate.precision]
        if not several:
            marker = MARKERS[index % len(MARKERS)]
        leads = not several or candidate.model not in {line.name for line in lines}
        name = candidate.model if several else candidate.name
        lines.append(Line(study.curve(candidate.name), name, tints[candidate.name], marker, dash, leads=leads))
    controls = [candidate.name for candidate in study.candidates if candidate.control]
    lines += [Line(study.curve(name), name, QUIET, "x", _CONTROL_DASH, control=True) for name in controls]
    legend = tuple((name, *precisions[name]) for name in names) if several else ()
    return Chart(tuple(lines), tuple(study.ticks()), legend)


def colours(study: Study) -> dict[str, str]:
    """Colour of each candidate, by its model; the same in every figure."""
    models = list(dict.fromkeys(candidate.model for candidate in study.models))
    tints = {model: COLOURS[index % len(COLOURS)] for index, model in enumerate(models)}
    return {candidate.name: QUIET if candidate.control else tints[candidate.model] for candidate in study.candidates}


def save_figure(shown: Chart, title: str, paths: Sequence[Path]) -> None:
    """Draw both panels side by side, in the format of each path's suffix.

    Raises:
        ResourceError: a file cannot be written.
    """
    with _style():
        figure = Figure(figsize=(11.5, 4.6), layout="constrained")
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.12, wspace=0.03)
        for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            _draw(axes, shown, panel)
        figure.suptitle(title, x=0.008, ha="left", fontsize=12, fontweight="bold")
        for path in paths:
            with atomic_path(path) as temporary, write_errors(path):
                metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
                figure.savefig(temporary, dpi=200, metadata=metadata)


def panel_svg(shown: Chart, panel: Panel) -> str:
    """Draw one panel as an SVG element for a page that defines ``--ink``, ``--series-0`` and so on."""
    with _style():
        figure = Figure(figsize=(5.0, 3.9), layout="constrained")
        _draw(figure.subplots(), shown, panel)
        return themed_svg(figure, panel)


def differences_svg(rows: Sequence[Difference], unit: str) -> str:
    """Draw the differences as intervals on an axis with a line at zero."""
    with _style():
        figure = Figure(figsize=(7.4, 0.75 + 0.42 * len(rows)), layout="constrained")
        axes: Any = figure.subplots()
        axes.axvline(0, color=QUIET, linewidth=1)
        for place, row in enumerate(reversed(rows)):
            low, high = row.estimate.low, row.estimate.high
            axes.plot((low, high), (place, place), color=row.colour, linewidth=3.2, solid_capstyle="round", alpha=0.45)
            axes.plot(row.estimate.value, place, marker="o", color=row.colour, markersize=7)
        axes.set_yticks(range(len(rows)), [row.label for row in reversed(rows)], color=INK, fontsize=10)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(unit, color=QUIET)
        axes.tick_params(length=0)
        axes.grid(axis="x", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        return themed_svg(figure, "differences")


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


def _draw(axes: Any, shown: Chart, panel: Panel) -> None:
    places = [place for place, _ in shown.ticks]
    axes.axvspan(1, PAPER_RATIO, color=SHADE, linewidth=0, zorder=0)
    for line in shown.lines:
        _line(axes, line, places, panel)
    if panel == "loss":
        axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    else:
        axes.set_ylim(0, 1.1 * max(point.high for line in shown.lines for point in line.curve.error))
    axes.set_xlim(min(places), max(places))
    turned = 35 if any(len(label) > 4 for _, label in shown.ticks) else 0
    axes.set_xticks(places, [label for _, label in shown.ticks], rotation=turned)
    axes.set_xlabel("inference resolution [pixels]", color=QUIET)
    axes.set_title(_TITLES[panel], loc="left", fontsize=11, color=INK, pad=20)
    axes.text(0, 1.025, _NOTES[panel], transform=axes.transAxes, fontsize=9, color=QUIET, va="bottom")
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.margins(y=0.06)
    _name_range(axes, places)
    _labels(axes, shown.lines, panel)
    if panel == "error":
        _name_precisions(axes, shown)


def _line(axes: Any, line: Line, places: Sequence[float], panel: Panel) -> None:
    points = _points(line.curve, panel)
    low, high = [point.low for point in points], [point.high for point in points]
    if line.leads and (panel == "loss" or not line.control):  # in the error panel it would hide the other bands
        axes.fill_between(places, low, high, color=line.colour, alpha=0.10 if line.control else 0.16, linewidth=0)
    values = [point.value for point in points]
    axes.plot(
        places,
        values,
        color=line.colour,
        linestyle=line.dash,
        linewidth=1.4 if line.control else 2,
        marker=line.marker,
        markersize=5,
        clip_on=False,
        zorder=3,
    )


def _name_range(axes: Any, places: Sequence[float]) -> None:
    """Label the shaded range if it is wide enough for the text."""
    if max(places) > 1 and (min(PAPER_RATIO, max(places)) - 1) / (max(places) - min(places)) > 0.25:
        axes.annotate(
            "range of the paper's figure",
            (1, 1),
            (6, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8.5,
            color=QUIET,
            va="top",
        )


def _labels(axes: Any, lines: Sequence[Line], panel: Panel) -> None:
    """Label the lines at their right ends, moved apart if they would overlap."""
    low, high = axes.get_ylim()
    named = [line for line in lines if line.leads]
    heights = {line.name: (_points(line.curve, panel)[-1].value - low) / (high - low) for line in named}
    place = -1.0
    for line in sorted(named, key=lambda line: heights[line.name]):
        place = max(heights[line.name], place + _GAP)
        axes.annotate(
            line.name,
            (1, place),
            (9, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            color=line.colour,
            fontsize=10,
            fontweight="normal" if line.control else "bold",
            va="center",
            annotation_clip=False,
        )


def _name_precisions(axes: Any, shown: Chart) -> None:
    """Add a legend of the precisions' line styles, in ink."""
    handles = [
        Line2D([], [], color=QUIET, linestyle=dash, marker=marker, markersize=5, label=name)
        for name, dash, marker in shown.precisions
    ]
    if handles:
        axes.legend(handles=handles, frameon=False, loc="lower right", fontsize=9, labelcolor=QUIET, handlelength=3.2)


def _points(curve: Curve, panel: Panel) -> tuple[Estimate, ...]:
    return curve.loss if panel == "loss" else curve.error


def themed_svg(figure: Figure, name: str) -> str:
    """Convert a figure to an SVG element without fixed size, background and fonts; ``name`` makes its ids unique."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern, replacement in _THEME:
        text = re.sub(pattern, replacement.replace("NAME", name), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
