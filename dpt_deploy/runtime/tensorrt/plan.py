"""A plan becomes an engine on this GPU; whoever runs it, or puts weights into it, begins here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.runtime.cuda.driver import call


def deserialize(trt: Any, path: Path, logger: Any = None, *, host_code: bool = False) -> tuple[Any, Any]:
    """Runtime and engine of a plan whose hash was checked; ``logger`` is the library's own, of errors, unless given.

    ``host_code``: the plan brings code for the host, which a version-compatible one does and no other may.

    Raises:
        BadFileError: the file cannot be read.
        IncompatibleError: there is no driver or no GPU, or the library does not take the plan here.
    """
    call("cudaFree", 0)  # makes the CUDA context, or says clearly why there is none
    runtime = trt.Runtime(logger or trt.Logger(trt.Logger.ERROR))
    if host_code:
        runtime.engine_host_code_allowed = True
    try:
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
    except OSError as exc:
        raise BadFileError(f"cannot read {path}: {exc.strerror or exc}", hint="check the path") from exc
    if engine is None:
        raise IncompatibleError(
            f"{trt.__name__} {trt.__version__} cannot load {path.name} on this GPU",
            hint="build it again on this machine: dpt-deploy build MODEL.onnx",
        )
    return runtime, engine
