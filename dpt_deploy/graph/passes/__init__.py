"""Rewrites of the FP32 graph that leave its numbers as they are: one a file, the algebra in its docstring.

A pass says what it did and, with reasons, what it left alone. Whether numbers really stayed is not taken on trust:
``workflow.quantise`` compares outputs before and after, and drops a rewrite that moved them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """The nodes that a pass rewrote, and those that it refused, with the reason."""

    fired: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
