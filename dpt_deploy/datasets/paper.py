"""The paper's numbers, read from ``data/paper.toml``, for comparison with measured ones."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import UsageError


@dataclass(frozen=True)
class PaperTable:
    """The paper's numbers for one data set.

    ``values`` maps a model (its name in the zoo, if it has one) and a metric (``protocols.METRICS``) to a number in the
    printed unit: percent where ``Metric.percent`` is set. ``released`` holds the authors' own evaluation of the weights
    they published, if there is one. ``notes`` states what to know before comparing.
    """

    table: int
    caption: str
    notes: str
    values: dict[str, dict[str, float]]
    released: dict[str, dict[str, float]]


@dataclass(frozen=True)
class PaperValue:
    """One number of the paper's table ``table``, in the unit of ``protocols.METRICS[metric]``."""

    value: float
    metric: str
    table: int
    notes: str


def paper_table(dataset: str) -> PaperTable:
    """Return all numbers that the paper prints for a data set.

    Raises:
        UsageError: the paper has no table for it.
    """
    tables = _tables()
    if dataset not in tables:
        raise UsageError(f"the paper has no numbers for {dataset!r}", hint=f"it has for: {', '.join(sorted(tables))}")
    return tables[dataset]


def paper_value(dataset: str, model: str, metric: str) -> PaperValue | None:
    """Return the paper's number for a model of the zoo, or None if there is none (raises as :func:`paper_table`)."""
    table = paper_table(dataset)
    value = table.values.get(model, {}).get(metric)
    return None if value is None else PaperValue(value, metric, table.table, table.notes)


@cache
def _tables() -> dict[str, PaperTable]:
    text = (files("dpt_deploy") / "data" / "paper.toml").read_text(encoding="utf-8")
    entries: dict[str, Any] = tomllib.loads(text)
    return {name: decode(PaperTable, {"released": {}, **entry}, name) for name, entry in entries.items()}
