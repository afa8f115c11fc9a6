"""Rewrites of the FP32 graph that keep its numbers: one per module, with the algebra in its docstring.

A pass reports the nodes that it rewrote and, with reasons, those that it left alone. :mod:`dpt_deploy.jobs.export`
compares the outputs before and after, and drops a rewrite that moved them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Nodes that a pass rewrote (``fired``), and nodes that it refused, with reasons."""

    fired: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
