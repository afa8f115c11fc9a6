"""Figures drawn on demand: pages and tables do not need matplotlib, only their pictures do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from dpt_deploy.core.optional import extra

Draw = Callable[[Mapping[str, Any], Path], None]  # of the content of a result and the file to write


def load_drawing(module: str, function: str) -> Draw:
    """Import a figure module of this package and return its function.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with extra("study", purpose="drawing"):
        draw: Draw = getattr(import_module(f"dpt_deploy.report.{module}"), function)
    return draw


def lazy_drawing(module: str, function: str) -> Draw:
    """Return a function that imports its figure module at the first drawing."""

    def draw(data: Mapping[str, Any], path: Path) -> None:
        load_drawing(module, function)(data, path)

    return draw
