"""Deserialise a plan to an engine on this GPU, to run it or to change its weights, and read its ends.

Experimental: run on one GPU so far (``docs/explanation/engines.md``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError, IncompatibleError
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.cuda.driver import call

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}


def deserialize(trt: Any, path: Path, logger: Any = None, *, host_code: bool = False) -> tuple[Any, Any]:
    """Return the library's runtime and the engine of a plan whose hash was checked.

    ``logger`` receives messages (default: the library's own logger, errors only). ``host_code`` allows code for the
    host, which only version-compatible plans contain.

    Raises:
        BadFileError: the file cannot be read.
        IncompatibleError: there is no driver or no GPU, or the library rejects the plan on this machine.
    """
    call("cudaFree", 0)  # makes the CUDA context, or fails with a clear reason
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


def ends_of(trt: Any, engine: Any, path: Path) -> tuple[TensorSpec, tuple[TensorSpec, ...]]:
    """Return the one input of a deserialised engine, and its outputs.

    Raises:
        BadFileError: it has another number of inputs, or no output.
    """
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(dim if dim >= 0 else f"d{axis}" for axis, dim in enumerate(engine.get_tensor_shape(name)))
        kind = engine.get_tensor_dtype(name).name
        ends = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        ends.append(TensorSpec(name, _DTYPES.get(kind, kind.lower()), shape))
    if len(inputs) != 1 or not outputs:
        raise BadFileError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; expected one input, and outputs",
            hint="build it again",
        )
    return inputs[0], tuple(outputs)
