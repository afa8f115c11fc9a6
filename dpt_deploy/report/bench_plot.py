"""The picture of a bench result: what it may be written to is settled before minutes of timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.optional import extra

SUFFIXES = (".svg", ".png", ".pdf")


def check_plot(path: Path) -> None:
    """Raise now what drawing to ``path`` would raise after minutes of timing.

    Raises:
        UsageError: not the suffix of a picture, or a folder.
        MissingExtraError: matplotlib is not installed.
        ResourceError: its folder cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UsageError(f"{path} is no picture to write", hint=f"name a file ending in {', '.join(SUFFIXES)}")
    check_folder(path.parent)
    _drawing()


def plot_result(result: Mapping[str, Any], path: Path) -> None:
    """Draw a result (see ``BenchResult.to_dict``); raises what :func:`check_plot` raises."""
    check_plot(path)
    ensure_folder(path.parent)
    _drawing()(result, path)


def _drawing() -> Callable[[Mapping[str, Any], Path], None]:
    with extra("study", purpose="drawing"):
        from dpt_deploy.report.latency_figure import draw_latency
    return draw_latency
