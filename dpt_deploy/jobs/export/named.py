"""Models by name: the export of a network whose weights ship with the package, made once, in the cache folder."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.recipe import load_recipe, zoo_names
from dpt_deploy.jobs.common.weights import shipped_for
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.checkpoints import published


def exported_by_name(name: str) -> Path:
    """Export the network ``name`` with its shipped weights, if the cache does not have it yet; return the file.

    Raises:
        UsageError: its weights do not ship with the package; the hint says how to get and export them.
        MissingExtraError: it must be exported, which needs the extra ``export``.
    """
    recipe = load_recipe(name)
    if shipped_for(recipe) is None:
        shipped = ", ".join(each for each in zoo_names() if shipped_for(load_recipe(each)))
        raise UsageError(
            f"{name} is the name of a network whose weights are not in the package, and no file of that name exists",
            hint=f"export it first: dpt-deploy export --backbone {name} -o out/; in the package are {shipped}",
        )
    return export_model(ExportRequest(recipe), published.cache_folder().parent / "models").artifact.path
