"""Runtimes by name. A back end is imported when it is asked for, never before."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Runner

# name -> (module, class, the third-party module it needs, the extra that brings it)
_RUNTIMES = {
    "ort": ("dpt_deploy.runtime.onnxruntime", "OrtRunner", "onnxruntime", "ort"),
    "emu": ("dpt_deploy.runtime.emulated", "EmuRunner", "onnxruntime", "ort"),
    "native": (
        "dpt_deploy.runtime.native.runner",
        "NativeRunner",
        "ctypes",
        "ort",
    ),  # a C++ library, found when it runs
    "trt": ("dpt_deploy.runtime.tensorrt.runner", "TrtRunner", "cuda", "trt"),
    "torch": ("dpt_deploy.runtime.pytorch", "TorchRunner", "torch", "export"),
}
FILE_RUNTIMES = ("ort", "emu", "native")  # those that run an artefact's file; torch is handed a module


def available(name: str) -> bool:
    """Whether the module behind a runtime is installed; it is not imported."""
    return find_spec(_RUNTIMES[name][2]) is not None


def runner_class(name: str) -> Any:
    """The runner class of a runtime.

    Raises:
        UsageError: no such runtime.
        MissingExtraError: its module is not installed.
    """
    if name not in _RUNTIMES:
        raise UsageError(f"unknown runtime {name!r}", hint=f"known: {', '.join(_RUNTIMES)}")
    module, attribute, _, which = _RUNTIMES[name]
    with extra(which, purpose=f"runtime {name!r}"):
        return getattr(import_module(module), attribute)


def load_plan(path: Path, library: Any, logger: Any, *, host_code: bool = False) -> tuple[Any, Any]:
    """Runtime and engine of a plan on this GPU, by the module ``library``, whose messages go to ``logger``.

    ``host_code``: the plan brings code for the host, as a version-compatible one does.

    Raises:
        MissingExtraError: cuda-python is not installed.
        BadFileError: the file cannot be read.
        IncompatibleError: there is no GPU, or the library does not take the plan here.
    """
    with extra("trt", purpose="loading an engine"):
        module: Any = import_module("dpt_deploy.runtime.tensorrt.plan")
    runtime, engine = module.deserialize(library, path, logger, host_code=host_code)
    return runtime, engine


def open_file(path: Path, runtime: str = "ort", *, threads: int | None = None, **needs: object) -> Runner:
    """A runner over an artefact's file (not yet entered); ``needs`` is what its class wants besides.

    Raises:
        UsageError: the runtime does not run files, or is unknown.
    """
    if runtime in _RUNTIMES and runtime not in FILE_RUNTIMES:
        raise UsageError(f"runtime {runtime!r} does not run exported files", hint=f"use {', '.join(FILE_RUNTIMES)}")
    return cast(Runner, runner_class(runtime)(path, threads=threads, **needs))
