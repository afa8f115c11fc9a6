"""Dense Prediction Transformers, from a PyTorch checkpoint to production, with parity proven at every step.

The public names are resolved on first use, so that ``import dpt_deploy`` costs nothing and needs only NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpt_deploy.workflow.export import export_model
    from dpt_deploy.workflow.predict import load
    from dpt_deploy.workflow.verify import verify_artifact

__version__ = "0.1.0"
__all__ = ["__version__", "export_model", "load", "verify_artifact"]

_PUBLIC = {
    "export_model": "dpt_deploy.workflow.export",
    "verify_artifact": "dpt_deploy.workflow.verify",
    "load": "dpt_deploy.workflow.predict",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dpt_deploy' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
