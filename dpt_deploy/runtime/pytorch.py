"""Runner over PyTorch eager, the reference for every exported file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.request import RunnerRequest

_PRODUCTS = frozenset({"conv2d", "conv_transpose2d", "linear", "matmul", "__matmul__", "bmm"})
_NARROW = ({torch.float16}, {torch.bfloat16})


class TorchRunner:
    """Runs a built module with one input and any number of outputs under the names of an exported file.

    It runs on the device and in the floating-point type of the module's parameters. ``call`` replaces the module in
    the call itself, for example with the compiled module.
    """

    name = "torch"

    def __init__(
        self, module: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, call: Any = None
    ) -> None:
        self._call = call or module
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        first = next(iter(module.parameters()), torch.empty(0))
        self._device, self._dtype = first.device, first.dtype

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Build the module behind an artefact; ``request.part(sidecar)`` returns it."""
        sidecar = request.described()
        return cls(request.part(sidecar), sidecar.inputs, sidecar.outputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The module belongs to the caller."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return self._outputs

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run once; raises :class:`ResourceError` when memory runs out."""
        try:
            with torch.inference_mode():
                result = self._call(*(self._moved(inputs[spec.name]) for spec in self._inputs))
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise _out_of_memory(exc) from exc
        except RuntimeError as exc:
            if "allocate" not in str(exc):  # the CPU allocator has no error class of its own
                raise
            raise _out_of_memory(exc) from exc
        return by_name(result, self._outputs)

    def _moved(self, value: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(value)).to(self._device)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def synchronize(self) -> None:
        """Wait for the device the module lives on."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def narrow_products(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which ``device`` computes products of 16-bit tensors as 16-bit units do.

    They are summed in FP32 and rounded once. On a CPU without such units PyTorch computes convolutions with a plain
    loop, which takes many times as long as in FP32; so a CPU computes the products in FP32. A GPU has the units.
    """
    return _WideProducts() if device.type == "cpu" else nullcontext()


class _WideProducts(TorchFunctionMode):
    """Computes products of 16-bit tensors in FP32 and rounds the results; leaves all other functions as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        types_of = {value.dtype for value in (*args, *options.values()) if isinstance(value, torch.Tensor)}
        if func.__name__ not in _PRODUCTS or types_of not in _NARROW:  # mixed types are PyTorch's to refuse
            return func(*args, **options)
        wide = {name: _widened(value) for name, value in options.items()}
        return func(*map(_widened, args), **wide).to(*types_of)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def by_name(result: Any, outputs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """A module's result, one tensor or one for each output, as host arrays; floating-point ones become float32."""
    tensors = result if isinstance(result, tuple | list) else (result,)
    return {
        output.name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
        for output, tensor in zip(outputs, tensors, strict=True)
    }


def _out_of_memory(exc: BaseException) -> ResourceError:
    first = str(exc).partition("\n")[0]
    return ResourceError(f"out of memory in PyTorch: {first}", hint="use a smaller size or batch")
