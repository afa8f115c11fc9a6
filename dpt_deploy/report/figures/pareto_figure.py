"""Figure of error against time: a line per precision and approximation, a point per size (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.report.style import INK, QUIET, RULE, STYLE

Data = Mapping[str, Any]

_COLOURS = {"fp32": "#0072b2", "int8-cpu": "#d55e00"}  # of Okabe and Ito
_OTHER = "#009e73"
_WIDEST = 105  # characters of a line of the subtitle
_MARKERS = "osDv^P*X<>p"  # of approximations, in their order
_STYLE: Any = {**STYLE, "axes.labelcolor": QUIET}


def draw_pareto(sweep: Data, path: Path) -> None:
    """Draw a sweep (the document of ``dpt-deploy sweep``) to ``path`` in the format of its suffix.

    The best points are ringed, and lines of approximations are broken. Precisions that this machine does not compute
    in have no time; their errors are listed below the title.

    Raises:
        ResourceError: the file cannot be written.
    """
    timed = [point for point in sweep["points"] if point["ms"]]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.4, 4.8), layout="constrained")
        axes = figure.subplots()
        kinds = list(dict.fromkeys(_approximation(point) for point in timed))
        for index, name in enumerate(dict.fromkeys(map(_name, timed))):
            own = [point for point in timed if _name(point) == name]
            _line(axes, own, kinds.index(_approximation(own[0])), named=index == 0)
        if timed:
            axes.legend(frameon=False, loc="best")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.set_xlabel("milliseconds for one image (median, 95 % interval)")
        axes.set_ylabel("AbsRel, lower is better")
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        names = ", ".join(dict.fromkeys(point["model"] for point in sweep["points"]))
        title = f"{names}: error against time, {sweep['images']} images of {sweep['data']['name']}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
        axes.set_title(_untimed(sweep["points"]), loc="left", fontsize=8.5, color=QUIET)
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
        with atomic_path(path) as temporary, write_errors(path):
            figure.savefig(temporary, dpi=200, metadata=metadata)


def _approximation(point: Data) -> str:
    return str(point.get("approximation", ""))


def _name(point: Data) -> str:
    return f"{point['precision']} {_approximation(point)}".strip()


def _line(axes: Any, points: Sequence[Data], kind: int, *, named: bool) -> None:
    """Draw a line over the sizes, with size labels if it is ``named``; ``kind`` is the place of its approximation."""
    times, errors = [point["ms"][0] for point in points], [point["abs_rel"] for point in points]
    spread = [
        [point["ms"][0] - point["ms"][1] for point in points],
        [point["ms"][2] - point["ms"][0] for point in points],
    ]
    precision, approximation = points[0]["precision"], _approximation(points[0])
    look: dict[str, Any] = {"color": _COLOURS.get(precision, _OTHER), "markersize": 4, "linewidth": 1.4, "capsize": 2}
    look |= {"marker": _MARKERS[kind % len(_MARKERS)], "linestyle": "--" if approximation else "-"}
    axes.errorbar(times, errors, xerr=spread, label=_name(points[0]), **look)
    for point in points:
        place = (point["ms"][0], point["abs_rel"])
        if named:
            axes.annotate(point["size"], place, (2, 7), textcoords="offset points", fontsize=8, color=QUIET)
        if point["best"]:
            axes.plot(*place, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=INK)


def _untimed(points: Sequence[Data]) -> str:
    """Format the errors at the first size of precisions without a time."""
    first = next(iter(points))["size"]
    listed = [f"{_name(each)} {each['abs_rel']:.4f}" for each in points if not each["ms"] and each["size"] == first]
    ringed = "Ringed: no other point is both faster and more accurate."
    return fill(f"{ringed} Not timed here, AbsRel at {first}: {', '.join(listed)}", _WIDEST) if listed else ringed
