"""Export of a study's models. Needs the ``export`` extra; a study of finished files does not import this module."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import Approximation, ExportRequest, check_export


def export_for_study(
    recipe: str,
    folder: Path,
    *,
    weights: str | None,
    precision: str = FP32,
    opset: int | None = None,
    approximation: tuple[str, tuple[float, ...]] | None = None,
) -> Artifact:
    """Export a zoo name or recipe file to ``folder``; a file that is up to date is kept.

    A graph that is slower than FP32 is accepted, and an approximation of any error: a study measures them.

    Raises:
        DptError: as :func:`~dpt_deploy.jobs.export.export.export_model`.
    """
    request = ExportRequest(
        load_recipe(recipe),
        weights=weights,
        precision=precision,
        opset=opset,
        approximation=Approximation(*approximation) if approximation else None,
        allow_poor=precision != FP32 or approximation is not None,
    )
    return export_model(request, folder).artifact


def check_approximation(recipe: str, approximation: tuple[str, tuple[float, ...]]) -> None:
    """Raise :class:`UsageError` for an approximation that the network does not take."""
    check_export(ExportRequest(load_recipe(recipe), approximation=Approximation(*approximation)))
