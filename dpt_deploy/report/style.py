"""How every figure looks: ink, rules and matplotlib settings that are the same in all of them."""

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
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "svg.hashsalt": "dpt-deploy",  # the same result is the same file
}
