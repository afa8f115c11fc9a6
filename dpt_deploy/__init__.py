"""Dense Prediction Transformers, from a PyTorch checkpoint to production, with parity proven at every step.

The public names are resolved on first use, so that ``import dpt_deploy`` costs nothing and needs only NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from dpt_deploy.artifact.store import open_artifact
    from dpt_deploy.core.progress import LineReporter, Reporter, reporting
    from dpt_deploy.core.recipe import list_models, load_recipe
    from dpt_deploy.core.size import Size, parse_size
    from dpt_deploy.imaging.files import read_image, read_pfm, write_pfm
    from dpt_deploy.jobs.bench.bench import BenchRequest, bench_artifact
    from dpt_deploy.jobs.build.build import build_engine_artifact
    from dpt_deploy.jobs.build.refit.refit import refit_engine_artifact
    from dpt_deploy.jobs.common.signature import check_signature, sign_artifact
    from dpt_deploy.jobs.export.convert import convert_checkpoint
    from dpt_deploy.jobs.export.export import export_model
    from dpt_deploy.jobs.export.library import create_model
    from dpt_deploy.jobs.export.request import ExportRequest
    from dpt_deploy.jobs.inspect import inspect_artifact
    from dpt_deploy.jobs.predict.files import run_files
    from dpt_deploy.jobs.predict.load import LoadedModel, load
    from dpt_deploy.jobs.study.study import StudyRequest, prepare_study, run_study
    from dpt_deploy.jobs.train.config import read_training
    from dpt_deploy.jobs.train.train import train_model
    from dpt_deploy.jobs.verify.diagnose import diagnose_artifact
    from dpt_deploy.jobs.verify.verify import verify_artifact

__all__ = [
    "BenchRequest",
    "ExportRequest",
    "LineReporter",
    "LoadedModel",
    "Reporter",
    "Size",
    "StudyRequest",
    "__version__",
    "bench_artifact",
    "build_engine_artifact",
    "check_signature",
    "convert_checkpoint",
    "create_model",
    "diagnose_artifact",
    "export_model",
    "inspect_artifact",
    "list_models",
    "load",
    "load_recipe",
    "open_artifact",
    "parse_size",
    "prepare_study",
    "read_image",
    "read_pfm",
    "read_training",
    "refit_engine_artifact",
    "reporting",
    "run_files",
    "run_study",
    "sign_artifact",
    "train_model",
    "verify_artifact",
    "write_pfm",
]

_PUBLIC = {
    "BenchRequest": "dpt_deploy.jobs.bench.bench",
    "ExportRequest": "dpt_deploy.jobs.export.request",
    "LineReporter": "dpt_deploy.core.progress",
    "LoadedModel": "dpt_deploy.jobs.predict.load",
    "Reporter": "dpt_deploy.core.progress",
    "Size": "dpt_deploy.core.size",
    "StudyRequest": "dpt_deploy.jobs.study.study",
    "bench_artifact": "dpt_deploy.jobs.bench.bench",
    "build_engine_artifact": "dpt_deploy.jobs.build.build",
    "check_signature": "dpt_deploy.jobs.common.signature",
    "convert_checkpoint": "dpt_deploy.jobs.export.convert",
    "create_model": "dpt_deploy.jobs.export.library",
    "diagnose_artifact": "dpt_deploy.jobs.verify.diagnose",
    "export_model": "dpt_deploy.jobs.export.export",
    "inspect_artifact": "dpt_deploy.jobs.inspect",
    "list_models": "dpt_deploy.core.recipe",
    "load": "dpt_deploy.jobs.predict.load",
    "load_recipe": "dpt_deploy.core.recipe",
    "open_artifact": "dpt_deploy.artifact.store",
    "parse_size": "dpt_deploy.core.size",
    "prepare_study": "dpt_deploy.jobs.study.study",
    "read_image": "dpt_deploy.imaging.files",
    "read_pfm": "dpt_deploy.imaging.files",
    "read_training": "dpt_deploy.jobs.train.config",
    "refit_engine_artifact": "dpt_deploy.jobs.build.refit.refit",
    "reporting": "dpt_deploy.core.progress",
    "run_files": "dpt_deploy.jobs.predict.files",
    "run_study": "dpt_deploy.jobs.study.study",
    "sign_artifact": "dpt_deploy.jobs.common.signature",
    "train_model": "dpt_deploy.jobs.train.train",
    "verify_artifact": "dpt_deploy.jobs.verify.verify",
    "write_pfm": "dpt_deploy.imaging.files",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("dpt-deploy")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dpt_deploy' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
