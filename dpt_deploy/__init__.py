"""Dense Prediction Transformers, from a PyTorch checkpoint to production, with parity proven at every step.

The public names are resolved on first use, so that ``import dpt_deploy`` costs nothing and needs only NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from dpt_deploy.core.progress import LineReporter, Reporter, reporting
    from dpt_deploy.core.recipe import list_models, load_recipe
    from dpt_deploy.imaging.files import read_image, write_pfm
    from dpt_deploy.jobs.build.build import build_engine_artifact
    from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact
    from dpt_deploy.jobs.export.convert import convert_checkpoint
    from dpt_deploy.jobs.export.export import export_model
    from dpt_deploy.jobs.export.library import create_model
    from dpt_deploy.jobs.export.request import ExportRequest
    from dpt_deploy.jobs.predict.load import load
    from dpt_deploy.jobs.verify.verify import verify_artifact

__all__ = [
    "ExportRequest",
    "LineReporter",
    "Reporter",
    "__version__",
    "build_engine_artifact",
    "convert_checkpoint",
    "create_model",
    "export_model",
    "list_models",
    "load",
    "load_recipe",
    "read_image",
    "refit_engine_artifact",
    "reporting",
    "verify_artifact",
    "write_pfm",
]

_PUBLIC = {
    "ExportRequest": "dpt_deploy.jobs.export.request",
    "LineReporter": "dpt_deploy.core.progress",
    "Reporter": "dpt_deploy.core.progress",
    "reporting": "dpt_deploy.core.progress",
    "load_recipe": "dpt_deploy.core.recipe",
    "build_engine_artifact": "dpt_deploy.jobs.build.build",
    "convert_checkpoint": "dpt_deploy.jobs.export.convert",
    "refit_engine_artifact": "dpt_deploy.jobs.build.refit.refit",
    "create_model": "dpt_deploy.jobs.export.library",
    "list_models": "dpt_deploy.core.recipe",
    "export_model": "dpt_deploy.jobs.export.export",
    "verify_artifact": "dpt_deploy.jobs.verify.verify",
    "load": "dpt_deploy.jobs.predict.load",
    "read_image": "dpt_deploy.imaging.files",
    "write_pfm": "dpt_deploy.imaging.files",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("dpt-deploy")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dpt_deploy' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
