"""Verify a model on a server: golden tensors of the artefact that it serves are sent, and the answers compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.serve.check import is_repository, served_artifact
from dpt_deploy.jobs.verify.result import Verification
from dpt_deploy.jobs.verify.verify import verify_artifact
from dpt_deploy.runtime.served import Address


def verify_served(address: str, *, against: Path | str | None, **options: Any) -> Verification:
    """Compare the answers of the model at ``address`` with the golden tensors of its artefact.

    ``against`` is the artefact, or the model repository that holds it. ``options`` are those of
    :func:`~dpt_deploy.jobs.verify.verify.verify_artifact` that concern the signature.

    Raises:
        UsageError: it is no address, ``against`` is missing, or the server has no such model.
        BadFileError: the artefact is missing or damaged, or has no golden tensors.
        IncompatibleError: the server has another model.
        ResourceError: no server answers, or the model cannot compute.
    """
    served = Address.parse(address)
    if options.pop("runtime", None):
        raise UsageError(f"{address} is computed by its server", hint="leave --runtime out")
    if against is None:
        raise UsageError(
            f"the artefact behind {address} is not given, and its golden tensors are needed",
            hint="add --against models/ (the repository of the server), or --against MODEL.onnx",
        )
    path = Path(against)
    if is_repository(path):
        path = served_artifact(path, served.model).path
    options.pop("golden", None)
    return verify_artifact(path, runtime=str(served), golden=True, **options)
