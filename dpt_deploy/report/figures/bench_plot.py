"""The figure of a benchmark; its path is checked before minutes of timing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.report.drawing import load_drawing

SUFFIXES = (".svg", ".png", ".pdf")
_FIGURE = "dpt_deploy.report.figures.latency_figure:draw_latency"


def check_plot(path: Path) -> None:
    """Check before the timing that the figure can be written to ``path``.

    Raises:
        UsageError: the suffix is not one of :data:`SUFFIXES`, or the path is a folder.
        MissingExtraError: matplotlib is not installed.
        ResourceError: the folder cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"{path} is not a picture file", hint=f"name a file ending in {', '.join(SUFFIXES)}")
    check_folder(path.parent)
    load_drawing(_FIGURE)


def plot_result(result: Mapping[str, Any], path: Path) -> None:
    """Draw a result (see ``BenchResult.to_dict``); raises as :func:`check_plot`."""
    check_plot(path)
    ensure_folder(path.parent)
    load_drawing(_FIGURE)(result, path)
