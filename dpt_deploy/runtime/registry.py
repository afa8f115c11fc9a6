"""Table of runtimes: one record each, which is all that the rest of the program knows of it.

A new runtime is a module with a runner class, a record here and an extra in ``pyproject.toml``. The commands, their
help texts, ``doctor`` and the plots read the record. Nothing heavy is imported before a runtime is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.runner import Runner
from dpt_deploy.runtime.request import RunnerRequest

REFERENCE = "reference"  # the PyTorch module behind an artefact, which some runtimes run instead of its file


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    ``name`` is what ``--runtime`` takes. ``runner`` is ``module:class``: a :class:`~dpt_deploy.core.runner.Runner`
    with a class method ``open`` that takes a :class:`~dpt_deploy.runtime.request.RunnerRequest` and returns a runner,
    not yet entered. ``modules`` are the third-party modules it imports, ``extra`` the extra that installs them,
    ``package`` the distribution whose version may change its numbers.

    ``runs`` lists the kinds of artefact it takes: ``onnx``, ``plan``, or ``reference`` for the PyTorch module behind
    an artefact. The first runtime in the table that takes a kind is its default. ``precisions`` are those that it
    computes as their types say; empty means all. ``timed`` is False if its speed says nothing about the model's.
    ``emulates`` is True if it runs a copy of the graph that rounds every tensor to its type.

    ``arithmetic`` is the precision in which it computes what is not quantised, where that is not the file's own: the
    errors of a file are then held to those of PyTorch in this precision.

    ``divisible`` is True if its numbers do not depend on the number of threads of an operator, so that the processor
    may be divided among several images.

    ``served`` is True if it computes on a model server: the runtime is then named by the address of the model, which
    begins with ``name``.

    ``label``, ``colour`` and ``marker`` are for plots, ``ability`` is its line in ``doctor`` (empty: none), and
    ``help`` its entry in help texts. ``part`` names an object of another room that it needs (see
    ``jobs/common/runners.py``). ``device_predictor`` is ``module:class`` of a predictor that resizes on its device.
    """

    name: str
    runner: str
    runs: tuple[str, ...]
    label: str
    help: str
    modules: tuple[str, ...] = ()
    extra: str = "ort"
    package: str = ""
    precisions: tuple[str, ...] = ()
    timed: bool = True
    emulates: bool = False
    arithmetic: str = ""
    divisible: bool = False
    colour: str = "#e69f00"
    marker: str = "v"
    ability: str = ""
    part: str = ""
    served: bool = False
    device_predictor: str = ""

    @property
    def installed(self) -> bool:
        """True if its third-party modules are installed; they are not imported."""
        return all(find_spec(module) for module in self.modules)

    def load(self) -> Any:
        """Import and return the runner class.

        Raises:
            MissingExtraError: a third-party module is missing or cannot be imported.
        """
        return load_attribute(self.runner, which=self.extra, purpose=f"runtime {self.name!r}")

    def open(self, request: RunnerRequest) -> Runner:
        """Make a runner, not yet entered; raises what :meth:`load` and the runner's own ``open`` raise."""
        runner: Runner = self.load().open(request)
        return runner

    def computes(self, precision: str) -> bool:
        """True if its numbers show what ``precision`` costs."""
        return not self.precisions or precision in self.precisions


_TABLE = (
    Runtime(
        name="ort",
        runner="dpt_deploy.runtime.onnxruntime:OrtRunner",
        runs=(ONNX,),
        label="dpt-deploy, ONNX Runtime",
        help="ONNX Runtime",
        modules=("onnxruntime",),
        package="onnxruntime",
        precisions=("fp32", "int8-cpu"),  # its CPU computes 16-bit graphs in FP32
        divisible=True,
        colour="#0072b2",
        marker="o",
        ability="run ONNX artefacts",
    ),
    Runtime(
        name="openvino",
        runner="dpt_deploy.runtime.openvino:OpenVinoRunner",
        runs=(ONNX,),
        label="dpt-deploy, OpenVINO",
        help="OpenVINO on a CPU",
        modules=("openvino",),
        extra="openvino",
        package="openvino",
        precisions=("fp32", "int8", "int8-cpu", "int8-openvino"),
        colour="#7f3c8d",
        marker="D",
        ability="run ONNX artefacts in OpenVINO",
    ),
    Runtime(
        name="openvino-bf16",
        runner="dpt_deploy.runtime.openvino:OpenVinoBf16Runner",
        runs=(ONNX,),
        label="dpt-deploy, OpenVINO with BF16",
        help="OpenVINO on a CPU, in BF16 what is not quantised",
        modules=("openvino",),
        extra="openvino",
        package="openvino",
        precisions=("bf16", "int8", "int8-cpu", "int8-openvino"),
        arithmetic="bf16",
        colour="#a0522d",
        marker="h",
    ),
    Runtime(
        name="emu",
        runner="dpt_deploy.runtime.emulated:EmuRunner",
        runs=(ONNX,),
        label="dpt-deploy, rounded in ONNX Runtime",
        help="ONNX Runtime on a CPU, rounding as 16-bit types do",
        modules=("onnxruntime",),
        package="onnxruntime",
        timed=False,
        emulates=True,
        part="emulate",
    ),
    Runtime(
        name="trt",
        runner="dpt_deploy.runtime.tensorrt.runner:TrtRunner",
        runs=(PLAN,),
        label="dpt-deploy, TensorRT",
        help="TensorRT (experimental: run on one GPU so far)",
        modules=("tensorrt", "cuda"),
        extra="trt",
        package="tensorrt",
        colour="#000000",
        marker="P",
        ability="run engines of TensorRT",
        part="check_target",
        device_predictor="dpt_deploy.runtime.tensorrt.predictor:DevicePredictor",
    ),
    Runtime(
        name="native",
        runner="dpt_deploy.runtime.native.runner:NativeRunner",
        runs=(ONNX, PLAN),
        label="dpt-deploy, C++ library",
        help="the C++ library",
        precisions=("fp32", "int8-cpu"),
        colour="#56b4e9",
        marker="X",
    ),
    Runtime(
        name="torch",
        runner="dpt_deploy.runtime.pytorch:TorchRunner",
        runs=(REFERENCE,),
        label="PyTorch eager",
        help="PyTorch, the FP32 reference",
        modules=("torch",),
        extra="export",
        package="torch",
        precisions=("fp32",),
        colour="#d55e00",
        marker="s",
        part="reference",
    ),
    Runtime(
        name="grpc",
        runner="dpt_deploy.runtime.served:ServedRunner",
        runs=(ONNX, PLAN),
        label="model server, gRPC",
        help="a model server at grpc://HOST:PORT/MODEL",
        modules=("tritonclient",),
        extra="serve",
        package="tritonclient",
        timed=False,
        served=True,
        ability="serve models with Triton",
    ),
    Runtime(
        name="http",
        runner="dpt_deploy.runtime.served:HttpRunner",
        runs=(ONNX, PLAN),
        label="model server, HTTP",
        help="a model server at http://HOST:PORT/MODEL",
        modules=("tritonclient",),
        extra="serve",
        package="tritonclient",
        timed=False,
        served=True,
    ),
)
RUNTIMES = {runtime.name: runtime for runtime in _TABLE}


def find_runtime(name: str) -> Runtime:
    """Return the record of a runtime, which is named, or for a model server given by an address.

    Raises:
        UsageError: there is none of that name.
    """
    scheme = name.partition("://")[0] if is_address(name) else name
    if scheme not in RUNTIMES or RUNTIMES[scheme].served != is_address(name):
        known = [f"{each.name}://HOST:PORT/MODEL" if each.served else each.name for each in RUNTIMES.values()]
        raise UsageError(f"unknown runtime {name!r}", hint=f"known: {', '.join(known)}")
    return RUNTIMES[scheme]


def is_address(name: str) -> bool:
    """True if ``name`` is the address of something on a server, and not a name or a path."""
    return "://" in name


def runtimes_of(*kinds: str) -> tuple[Runtime, ...]:
    """Return the runtimes that take one of ``kinds``, the default of the first kind first."""
    return tuple(runtime for runtime in RUNTIMES.values() if set(kinds) & set(runtime.runs))


def load_plan(path: Path, library: Any, logger: Any, *, host_code: bool = False) -> tuple[Any, Any]:
    """Deserialise a plan on this GPU with the module ``library``; return its runtime and the engine.

    ``logger`` receives the library's messages. ``host_code`` allows code for the host, which a version-compatible plan
    contains.

    Raises:
        MissingExtraError: cuda-python is not installed.
        BadFileError: the file cannot be read.
        IncompatibleError: there is no GPU, or the library rejects the plan on this machine.
    """
    deserialize = load_attribute(
        "dpt_deploy.runtime.tensorrt.plan:deserialize", which="trt", purpose="loading an engine"
    )
    runtime, engine = deserialize(library, path, logger, host_code=host_code)
    return runtime, engine
