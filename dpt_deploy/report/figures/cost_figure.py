"""Figures on what computes less, with intervals (matplotlib, no display).

Fewer tokens: the change of the error, and the speed at each size. A joint file: two files compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.report.style import QUIET, STYLE

_ERROR, _SPEED = "#d55e00", "#0072b2"  # of Okabe and Ito


def draw_tokens(data: Mapping[str, Any], path: Path) -> None:
    """Draw the changes of the error and the speeds of a tokens record to ``path`` (.svg, .png, …).

    Raises:
        ResourceError: the file cannot be written.
    """
    scored = [row for row in data["accuracy"]["rows"] if row["file"] != "exact"]
    timed = [row for row in data["speed"]["rows"] if row["file"] != "exact"]
    changes = [tuple(row["change_percent"][key] for key in ("value", "low", "high")) for row in scored]
    settings: Any = STYLE
    with rc_context(settings):
        figure = Figure(figsize=(9.0, 0.5 + 0.36 * (len(scored) + 2)), layout="constrained")
        left, right = figure.subplots(1, 2)
        _bars(left, [row["file"] for row in scored], changes, _ERROR, 0.0)
        left.set_xlabel(f"change of AbsRel, % ({data['accuracy']['model']})")
        names = [f"{row['size']}, {row['file']}" for row in timed]
        _bars(right, names, [tuple(row["times_as_fast"]) for row in timed], _SPEED, 1.0)
        right.set_xlabel(f"times as fast ({data['speed']['model']})")
        _save(figure, path)


def draw_joint_cost(data: Mapping[str, Any], path: Path) -> None:
    """Draw time and operations of two files over those of the joint one to ``path`` (.svg, .png, …).

    Raises:
        ResourceError: the file cannot be written.
    """
    case = data["case"]
    operations = case["operations"]
    counted = (operations["depth"] + operations["segmentation"]) / operations["both"]
    settings: Any = STYLE
    with rc_context(settings):
        figure = Figure(figsize=(6.0, 1.7), layout="constrained")
        axis = figure.subplots()
        _bars(axis, ["time", "operations"], [tuple(case["two_files_over_joint"]), (counted,) * 3], _SPEED, 1.0)
        axis.set_xlabel(f"two files over one ({case['model']})")
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with write_errors(path), atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def _bars(axis: Any, names: list[str], values: list[tuple[float, ...]], colour: str, neutral: float) -> None:
    """Draw a point with its interval for each name, from top to bottom, and a line where nothing changes."""
    for place, (value, low, high) in enumerate(values):
        axis.plot((low, high), (place, place), color=colour, linewidth=2)
        axis.plot(value, place, color=colour, marker="o", markersize=5)
    axis.axvline(neutral, color=QUIET, linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
