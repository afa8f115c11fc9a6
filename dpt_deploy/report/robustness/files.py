"""Figure and page of a study of corruptions. Needs the extras ``study`` and ``images``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.optional import extra
from dpt_deploy.jobs.study.robustness.corrupted import CorruptionSetup, damage_of
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition

with extra("study", purpose="drawing the figure and the report"):
    from dpt_deploy.report.exhibits import photograph
    from dpt_deploy.report.figures.robustness_figure import draw_robustness
    from dpt_deploy.report.robustness.page import Strip, render

PICTURES = ("corruptions.svg", "corruptions.png", "corruptions.html")
_SHOWN = 3  # levels of each corruption


def write_pictures(document: Mapping[str, Any], setup: CorruptionSetup, out: Path) -> None:
    """Write ``corruptions.svg``, ``corruptions.png`` and ``corruptions.html``."""
    draw_robustness(document, out / PICTURES[0])
    draw_robustness(document, out / PICTURES[1])
    page = render(document, _strips(document, setup), command="study --corruptions")
    atomic_write_bytes(out / PICTURES[2], page.encode())


def _strips(document: Mapping[str, Any], setup: CorruptionSetup) -> list[Strip]:
    """The first image under every corruption, at the lowest, the middle and the highest severity."""
    sample, _ = setup.images.read(document["images"][0])
    damage = damage_of(setup.request.study.seed)
    by_name: dict[str, list[Condition]] = {}
    for condition in setup.conditions[1:]:
        by_name.setdefault(condition.name, []).append(condition)
    found = []
    for name, conditions in by_name.items():
        step = max(1, (len(conditions) - 1) // (_SHOWN - 1))
        shown = [CLEAN, *conditions[::step]]
        captions = ["undamaged", *(f"severity {each.level:g}" for each in shown[1:])]
        pictures = [photograph(damage(sample, each).image) for each in shown]
        found.append(Strip(name, tuple(zip(captions, pictures, strict=True))))
    return found
