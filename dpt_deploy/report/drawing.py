"""Figures drawn on demand: pages and tables do not need matplotlib, only their pictures do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.optional import load_attribute

Draw = Callable[[Mapping[str, Any], Path], None]  # of the content of a result and the file to write


def load_drawing(target: str) -> Draw:
    """Import the function ``target``, written ``module:function``, of a figure module.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    draw: Draw = load_attribute(target, which="study", purpose="drawing")
    return draw


def lazy_drawing(target: str) -> Draw:
    """Return a function that imports its figure module at the first drawing."""

    def draw(data: Mapping[str, Any], path: Path) -> None:
        load_drawing(target)(data, path)

    return draw
