"""Runners over OpenVINO's CPU plugin, which computes 8-bit graphs faster than ONNX Runtime.

OpenVINO's own default is BF16 for everything that is not quantised, on processors that have it. Here the precision of
the rest is always stated: ``openvino`` computes it in FP32, ``openvino-bf16`` in BF16.

A graph that is compiled for one size is faster than one for any size, because OpenVINO then fuses more of it. So the
first sizes that arrive get a graph each, and a graph for any size computes all others (decision 61).
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import ModuleType, TracebackType
from typing import Any, NamedTuple, Self, cast

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.disk.private import own_folder
from dpt_deploy.core.environment import sums_8_bits_in_16
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.files import check_text_path
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.ends import check_ends, described
from dpt_deploy.runtime.request import RunnerRequest

# Its converters, which are imported with it, leave an identifier of the user at home for Intel's statistics. They do
# without where the package for that cannot be imported.
sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
with extra("openvino", purpose="runtime 'openvino'"):
    import openvino

    from dpt_deploy.runtime.openvino_graph import decompose_group_norms, join_group_norms, refuse_wrong

FIXED_SIZES = 2
"""Sizes that get a graph of their own; each takes about as much memory as the weights."""

CACHE_VARIABLE = "DPT_DEPLOY_OPENVINO_CACHE"
_DEVICE = "CPU"
_REPORTED = {  # names of its options, as results show them
    "threads": "INFERENCE_NUM_THREADS",
    "streams": "NUM_STREAMS",
    "hint": "PERFORMANCE_HINT",
    "rest": "INFERENCE_PRECISION_HINT",
}
_MEMORY = ("alloc", "out of memory", "not enough memory")


class _Graph(NamedTuple):
    """A compiled graph, and its requests that are idle; one serves one call at a time."""

    compiled: Any
    idle: SimpleQueue[Any]


class OpenVinoRunner:
    """Runs an ONNX file; everything that is not quantised is computed in FP32.

    ``threads`` bounds the CPU threads of a run (default: OpenVINO's choice, one per core). With one of ``streams``, it
    is compiled for latency; with more, for throughput: as many threads may call :meth:`infer` at once. FP32 numbers of
    the two differ in the seventh digit, because sums are divided among other numbers of threads. The environment
    variable ``DPT_DEPLOY_OPENVINO_CACHE`` names a folder for compiled graphs, which makes the next start quick.
    """

    name = "openvino"
    rest = "f32"  # OpenVINO's name of the type in which everything is computed that is not quantised

    def __init__(
        self, path: Path, *, threads: int | None = None, sidecar: Sidecar | None = None, streams: int = 1
    ) -> None:
        self._path = path
        self._sidecar = sidecar
        self._threads = threads
        self.streams = streams
        self._core: Any = None
        self._options: dict[str, Any] = {}
        self._model: Any = None
        self._graphs: dict[Any, _Graph] = {}  # by the shapes of inputs; that of None takes any
        self._compiling = Lock()

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Make a runner of an artefact's file."""
        return cls(request.path, threads=request.threads, sidecar=request.sidecar, streams=request.streams)

    def __enter__(self) -> Self:
        """Read the graph; the first input of a size compiles it.

        Raises:
            BadFileError: it is none that OpenVINO can read, or not the one that its sidecar describes.
            IncompatibleError: OpenVINO computes it wrong, or this processor lacks the type.
            ResourceError: no memory.
            UsageError: the folder for compiled graphs is not the user's own, or the path is no UTF-8 text.
        """
        check_text_path(self._path)
        core = _core_of(os.getpid())
        if self.rest.upper() not in _capabilities(core):
            raise IncompatibleError(
                f"this processor has no {self.rest.upper()}: {core.get_property(_DEVICE, 'FULL_DEVICE_NAME')}",
                hint="use --runtime openvino, which computes in FP32",
            )
        config = self._config()
        try:
            self._model = core.read_model(str(self._path))
            if self._path.suffix == ".onnx":  # other programs' files are timed as they are
                refuse_wrong(self._model, self._path)
            decompose_group_norms(self._model)
        except RuntimeError as exc:  # all that OpenVINO raises
            raise self._unreadable(exc) from exc
        self._core, self._options = core, config
        if self._sidecar is not None:
            check_ends(self, self._path, self._sidecar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model, self._graphs = None, {}

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return tuple(map(self._spec, self._open().inputs))

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return tuple(map(self._spec, self._open().outputs))

    @property
    def settings(self) -> Mapping[str, str]:
        """Options as OpenVINO resolved them for the graph that was compiled last."""
        self._open()
        with self._compiling:
            compiled = self._graph(next(reversed(self._graphs), None)).compiled
        found = {name: compiled.get_property(key) for name, key in _REPORTED.items()}
        sizes = "any size" if compiled.input(0).get_partial_shape().is_dynamic else "one size"
        return {
            **{name: str(value) for name, value in found.items()},
            "rest": found["rest"].get_type_name(),
            "compiled for": sizes,
        }

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run once.

        Raises:
            UsageError: names, dtypes or shapes of ``inputs`` do not fit the model.
            BadFileError: OpenVINO cannot compile the graph.
            ResourceError: the runtime ran out of memory.
        """
        self._check(inputs)
        graph = self._graph_for(inputs)
        request = graph.idle.get()
        try:
            found = request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        except RuntimeError as exc:
            raise _translated(exc, inputs) from exc
        finally:
            graph.idle.put(request)
        return {self._name(port): value for port, value in found.items()}

    def synchronize(self) -> None:
        """``infer`` returns finished arrays: nothing to wait for."""

    def _open(self) -> Any:
        if self._model is None:
            raise DptError("the runner was used outside its 'with' block")
        return self._model

    def _graph_for(self, inputs: Tensors) -> _Graph:
        """Return the graph that computes ``inputs``; the first ones of a size may compile it."""
        shapes = tuple((name, tuple(value.shape)) for name, value in inputs.items())
        if (known := self._graphs.get(shapes)) is not None:
            return known  # without waiting for another size that is being compiled
        with self._compiling:
            if shapes in self._graphs:
                return self._graphs[shapes]
            fixed = len(self._graphs.keys() - {None})
            if not self._open().is_dynamic() or fixed >= FIXED_SIZES:
                return self._graph(None)
            model = self._model.clone()
            try:
                model.reshape({name: list(shape) for name, shape in shapes})
            except RuntimeError as exc:
                raise _translated(exc, inputs) from exc
            return self._graph(shapes, model)

    def _graph(self, shapes: Any, model: Any = None) -> _Graph:
        """Return the graph for inputs of ``shapes`` (None: of any), compiled once from ``model``."""
        if shapes not in self._graphs:
            try:
                chosen = self._any_size() if model is None else model
                compiled = self._core.compile_model(chosen, _DEVICE, self._options)
                graph = _Graph(compiled, SimpleQueue())
                for _ in range(self.streams):
                    graph.idle.put(compiled.create_infer_request())
            except RuntimeError as exc:
                raise self._unreadable(exc) from exc
            self._graphs[shapes] = graph
        return self._graphs[shapes]

    def _any_size(self) -> Any:
        """Return the model as it is compiled for every size that it takes."""
        if not self._model.is_dynamic():
            return self._model
        model = self._model.clone()
        join_group_norms(model)
        return model

    def _spec(self, port: Any) -> TensorSpec:
        dims = (dim.get_length() if dim.is_static else str(dim) for dim in port.get_partial_shape())
        return TensorSpec(self._name(port), str(np.dtype(port.get_element_type().to_dtype())), tuple(dims))

    def _name(self, port: Any) -> str:
        """The sidecar's name of a tensor, which may have several where nodes were merged."""
        known = {end.name for end in (*self._sidecar.inputs, *self._sidecar.outputs)} if self._sidecar else set()
        name: str = next(iter(known & port.get_names()), port.get_any_name())
        return name

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.rest, "PERFORMANCE_HINT": "LATENCY"}
        if sums_8_bits_in_16():  # where sums above 32767 would be cut; floats are exact
            config["LP_TRANSFORMS_MODE"] = False
        if self.streams > 1:
            config |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": self.streams}
        if self._threads:
            config["INFERENCE_NUM_THREADS"] = self._threads
        if folder := os.environ.get(CACHE_VARIABLE, "").strip():
            own_folder(Path(folder))
            config["CACHE_DIR"] = folder
        return config

    def _check(self, inputs: Tensors) -> None:
        """OpenVINO converts other types in silence."""
        expected = {end.name: end for end in self.inputs}
        found = {name: str(value.dtype) for name, value in inputs.items()}
        if found != {name: end.dtype for name, end in expected.items()}:
            raise UsageError(
                f"the model does not accept {_shapes(inputs)}; expected {', '.join(map(described, expected.values()))}",
                hint="list its inputs with `dpt-deploy inspect`",
            )

    def _unreadable(self, exc: RuntimeError) -> DptError:
        if _is_memory(exc):
            return ResourceError(f"out of memory while loading {self._path}", hint="free some memory")
        return BadFileError(
            f"OpenVINO {openvino.__version__} cannot load {self._path}: {_line(exc)}",
            hint="check the file with `dpt-deploy inspect`, or run it in ONNX Runtime (--runtime ort)",
        )


class OpenVinoBf16Runner(OpenVinoRunner):
    """The same; everything that is not quantised is computed in BF16, if the processor can."""

    name = "openvino-bf16"
    rest = "bf16"


@functools.cache
def _core_of(_process: int) -> Any:
    """Return the one core of this process, which is never closed.

    On processors with AMX, each core of OpenVINO 2026.4 gives the thread that makes it another stack for signals, and
    restores the one before when it is closed. If two are closed in the order of their making, the second one restores
    a stack that is no longer there, and the next signal (Ctrl-C) ends the process with a segmentation fault. A forked
    process makes its own, because it has none of the threads.
    """
    return openvino.Core()


def _capabilities(core: Any) -> set[str]:
    """Types of the CPU plugin on this processor, by its names; FP32 is always there."""
    return {"F32", *core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")}


def _translated(exc: RuntimeError, inputs: Tensors) -> DptError:
    if _is_memory(exc):
        return ResourceError(f"out of memory for {_shapes(inputs)}: {_line(exc)}", hint="use a smaller size or batch")
    return UsageError(
        f"the model does not accept {_shapes(inputs)}: {_line(exc)}", hint="list its inputs with `dpt-deploy inspect`"
    )


def _shapes(inputs: Tensors) -> str:
    return ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in inputs.items())


def _is_memory(exc: RuntimeError) -> bool:
    text = str(exc).lower()
    return any(word in text for word in _MEMORY)


def _line(exc: RuntimeError) -> str:
    """The last line of a message: those before it are places in OpenVINO's source."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(exc).__name__
