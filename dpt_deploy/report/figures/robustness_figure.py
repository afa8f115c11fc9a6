"""Figure of a study of conditions: growth of the error by condition, and the differences from FP32 (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.report.figures.resolution_figure import COLOURS, MARKERS, themed_svg
from dpt_deploy.report.style import INK, QUIET, RULE, SHADE, STYLE

Document = Mapping[str, Any]
_STYLE: Any = {**STYLE, "axes.labelcolor": QUIET, "axes.spines.left": False}
_SPREAD = 0.5  # of a row, shared by the subjects


def draw_robustness(document: Document, path: Path) -> None:
    """Draw the document of a study of conditions to ``path`` in the format of its suffix.

    Raises:
        ResourceError: the file cannot be written.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(document)
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {}
        with atomic_path(path) as temporary, write_errors(path):
            figure.savefig(temporary, dpi=200, metadata=metadata)


def robustness_svg(document: Document) -> str:
    """Draw the figure as an SVG element for a page that defines ``--ink``, ``--series-0`` and so on."""
    with mpl.rc_context(_STYLE):
        return themed_svg(_figure(document), "robustness")


def colours_of(document: Document) -> dict[str, str]:
    """Colour of each subject."""
    return {each["subject"]: COLOURS[index % len(COLOURS)] for index, each in enumerate(document["subjects"])}


def _figure(document: Document) -> Figure:
    summary, extras, tints = document["summary"], document["extras"], colours_of(document)
    growths = {each["subject"]: {**each["growth_by_name"], "all": each["growth"]} for each in summary}
    differences = {each["subject"]: {**each["by_name"], "all": each["overall"]} for each in extras}
    first = next(iter(growths.values()))
    names = [*sorted((name for name in first if name != "all"), key=lambda name: first[name]["value"]), "all"]
    columns = 2 if extras else 1
    figure = Figure(figsize=(5.4 * columns, 1.7 + 0.3 * len(names)), layout="constrained")
    panels = list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])
    _panel(panels[0], names, growths, tints, "growth of the error [points]")
    if extras:
        _panel(panels[1], names, differences, tints, "growth minus that of FP32 [points]")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.5, len(names) - 0.5)  # room for a row at both ends, also where there are few
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower left", ncols=4, fontsize=9)
    images = f"{document['data']['images']} images of {document['data']['name']}"
    line_break = " " if extras else "\n"  # one panel is too narrow for one line
    title = f"{images},{line_break}mean over levels, 95 % intervals"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def _panel(
    axes: Any, names: Sequence[str], found: Mapping[str, Mapping[str, Any]], tints: Mapping[str, str], label: str
) -> None:
    axes.axhspan(len(names) - 1.5, len(names) - 0.5, color=SHADE, linewidth=0, zorder=0)
    for index, (subject, values) in enumerate(found.items()):
        shift = _SPREAD * ((index + 0.5) / len(found) - 0.5)
        points = [values[name] for name in names]
        spread = [
            [each["value"] - each["low"] for each in points],
            [each["high"] - each["value"] for each in points],
        ]
        axes.errorbar(
            [each["value"] for each in points],
            [row - shift for row in range(len(names))],
            xerr=[[max(0.0, each) for each in side] for side in spread],
            color=tints[subject],
            marker=MARKERS[list(tints).index(subject) % len(MARKERS)],
            markersize=4,
            linestyle="none",
            elinewidth=1.2,
            label=subject,
        )
    axes.axvline(0, color=QUIET, linewidth=0.8)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
