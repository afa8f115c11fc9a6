"""Colours and matplotlib settings of all figures."""

from __future__ import annotations

from typing import Any

INK, QUIET, RULE, SHADE = "#1b1f24", "#5c6670", "#d6dbe0", "#f1f3f5"
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,  # a dollar sign in a model's name is no formula
    "svg.fonttype": "none",  # text stays text: searchable and accessible
    "svg.hashsalt": "dpt-deploy",  # the same result gives the same file
}
