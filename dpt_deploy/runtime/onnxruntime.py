"""Runner over ONNX Runtime, the CPU reference for exported files.

A CUDA build is used if it is installed (experimental: not yet run on a GPU).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which would create an event database
import onnxruntime as ort

from dpt_deploy.artifact.defects import refuse_wrong
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.environment import cpu_count, sums_8_bits_in_16
from dpt_deploy.core.errors import BadFileError, DptError, ResourceError, UsageError
from dpt_deploy.core.files import check_text_path
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.runner import NoKernelError, Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.ends import check_ends
from dpt_deploy.runtime.request import RunnerRequest

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
}

# Marks of an operator without a kernel for its types. For 8-bit floats ONNX Runtime calls the graph invalid instead.
_NO_KERNEL = ("NOT_IMPLEMENTED", "Type 'tensor(float8")


class OrtRunner:
    """Runs an ONNX file. ``threads`` bounds the CPU threads of one operator (default: ONNX Runtime's choice).

    Threads of one operator wait for the next one by spinning, until the run is over. With several ``streams`` they
    sleep, because other work waits for the processor.
    """

    name = "ort"

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        sidecar: Sidecar | None = None,
        streams: int = 1,
        in_order: bool = False,
    ) -> None:
        self._path = path
        self._sidecar = sidecar
        self._threads = threads
        self.streams = streams
        self._in_order = in_order
        self._session: Any = None
        self._in_floats = False

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Make a runner of an artefact's file."""
        return cls(
            request.path,
            threads=request.threads,
            sidecar=request.sidecar,
            streams=request.streams,
            in_order=request.in_order,
        )

    def __enter__(self) -> Self:
        check_text_path(self._path)
        self._refuse_wrong()
        options = self._options()
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [name for name in wanted if name in ort.get_available_providers()]
        if wanted[0] in providers:
            ort.preload_dlls()  # CUDA and cuDNN of the nvidia-… packages, which no search path names
        try:
            self._session = self._loaded(options, providers)
        except Exception as exc:  # the runtime's exception classes are private
            if _is_memory(exc):
                raise ResourceError(f"out of memory while loading {self._path}", hint="free some memory") from exc
            if _has_no_kernel(exc):
                raise NoKernelError(
                    f"ONNX Runtime {ort.__version__} has no kernel for {self._path.name} on this machine: {_line(exc)}",
                    hint="run it with --runtime emu, which rounds as 16-bit types do, or build an engine from it",
                ) from exc
            raise BadFileError(
                f"ONNX Runtime {ort.__version__} cannot load {self._path}: {_line(exc)}",
                hint="check the file with `dpt-deploy inspect`, or export with another --opset",
            ) from exc
        if self._sidecar is not None:
            check_ends(self, self._path, self._sidecar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def _loaded(self, options: Any, providers: Sequence[str]) -> Any:
        """Load the file; where exact sums of 8 bits cannot be had in integers, its pairs are computed in floats.

        ONNX Runtime 1.31 fails to prepare exact integer kernels for a weight that two nodes read.
        """
        try:
            return ort.InferenceSession(str(self._path), options, providers=providers)
        except Exception as exc:
            if not sums_8_bits_in_16() or _has_no_kernel(exc):
                raise
            self._in_floats = True
            return ort.InferenceSession(str(self._path), self._options(integers=False), providers=providers)

    def _options(self, *, integers: bool = True) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 4  # errors arrive as exceptions
        # Its plan for buffers takes most of the time of loading, because the search grows with the square of the nodes.
        # The arena reuses memory without a plan: runs take as long and need as much.
        options.enable_mem_reuse = False
        options.intra_op_num_threads = self._threads_of_one()
        if self._in_order:  # the default computes what the outputs need from the last node on
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        if self.streams > 1:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._sidecar is not None and find_precision(self._sidecar.precision).has_no_integer_kernels:
            integers = False
        if not integers:
            # Its rewriting of pairs finds nothing to gain there. It divides biases by the product of two steps in FP16,
            # where the quotients overflow, and hands 8-bit floats to operators that take none.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if sums_8_bits_in_16():
            # Sums above 32767 would be cut. This asks for exact kernels. On some processors that cut nothing, it would
            # turn the fast kernels off (those with AMX), and fail where two nodes read one weight.
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Between runs, which would slow whatever is computed next: another runtime of a benchmark, for example.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _threads_of_one(self) -> int:
        """Threads of one operator; 0 is ONNX Runtime's choice."""
        if self._threads or self.streams == 1:
            return self._threads or 0
        return max(1, cpu_count() + 1 - self.streams)  # each stream brings a thread of its own

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return tuple(_spec(entry) for entry in self._open().get_inputs())

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return tuple(_spec(entry) for entry in self._open().get_outputs())

    @property
    def providers(self) -> Sequence[str]:
        """Execution providers in order of preference, without those whose libraries cannot be loaded."""
        return tuple(self._open().get_providers())

    @property
    def settings(self) -> Mapping[str, str]:
        """Threads of one operator, when threads that have no work spin, and 8 bits that are computed in floats."""
        spinning = "during a run" if self.streams == 1 else "never"
        found = {"threads": str(self._threads_of_one() or "as many as cores"), "spinning": spinning}
        return found | ({"8 bits": "computed in floats"} if self._in_floats else {})

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run once.

        Raises:
            UsageError: names, dtypes or shapes of ``inputs`` do not fit the model.
            ResourceError: the runtime ran out of memory.
        """
        session = self._open()
        names = [entry.name for entry in session.get_outputs()]
        try:
            values = session.run(names, dict(inputs))
        except Exception as exc:  # the runtime's exception classes are private
            raise _translated(exc, inputs) from exc
        return dict(zip(names, values, strict=True))

    def synchronize(self) -> None:
        """``infer`` returns finished arrays: nothing to wait for."""

    def _refuse_wrong(self) -> None:
        """Raise :class:`IncompatibleError` in a version that computes this artefact wrong."""
        if self._sidecar is not None:
            refuse_wrong("onnxruntime", ort.__version__, self._path, self._sidecar)

    def _open(self) -> Any:
        if self._session is None:
            raise DptError("the runner was used outside its 'with' block")
        return self._session


def _translated(exc: Exception, inputs: Tensors) -> DptError:
    text = _line(exc)
    shapes = ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in inputs.items())
    if _is_memory(exc):
        return ResourceError(f"out of memory for {shapes}: {text}", hint="use a smaller size or batch")
    return UsageError(f"the model does not accept {shapes}: {text}", hint="list its inputs with `dpt-deploy inspect`")


def _spec(entry: Any) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in entry.shape)
    return TensorSpec(entry.name, _DTYPES.get(entry.type, entry.type), shape)


def _is_memory(exc: Exception) -> bool:
    text = str(exc).lower()
    return isinstance(exc, MemoryError) or "alloc" in text or "out of memory" in text


def _has_no_kernel(exc: Exception) -> bool:
    return any(mark in str(exc) for mark in _NO_KERNEL)


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300]
