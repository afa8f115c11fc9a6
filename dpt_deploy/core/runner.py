"""The interface of every runtime, and the optional abilities that only some of them have.

:class:`Runner` is what each runtime implements. An ability is a protocol of its own: ask for it with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.spec import TensorSpec

Tensors = Mapping[str, np.ndarray]
CUDA_DEVICE = 2  # DLPack's number for memory of a CUDA device (kDLCUDA)


class NoKernelError(IncompatibleError):
    """The runtime has no kernel for an operator in the types of the file."""


class Runner(Protocol):
    """Runs one model. A context manager: resources are held from ``__enter__`` to ``__exit__``.

    ``infer`` is synchronous as seen by the caller: the arrays it returns are complete and owned by the caller.
    """

    name: str

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def infer(self, inputs: Tensors, /) -> dict[str, np.ndarray]: ...

    def synchronize(self) -> None:
        """Wait for work queued on the device, if there is one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class ConcurrentRunner(Protocol):
    """Lets several threads call ``infer`` at once."""

    @property
    def streams(self) -> int:
        """Number of threads that may; the processor is divided among them."""


@runtime_checkable
class AsyncRunner(Protocol):
    """Overlaps runs: the next one is queued while another computes."""

    def submit(self, inputs: Tensors, /) -> Any:
        """Queue one run and return its ticket; wait for a free slot if all are taken."""

    def try_submit(self, inputs: Tensors, /) -> Any:
        """Queue one run and return its ticket, or return None if all slots are taken."""

    def collect(self, ticket: Any, /) -> dict[str, np.ndarray]:
        """Wait for the run of ``ticket`` and return its outputs, once."""


@runtime_checkable
class DeviceRunner(Protocol):
    """Takes and returns arrays in the memory of its device."""

    def to_device(self, value: np.ndarray, /) -> Any:
        """Copy a host array to the device."""

    def infer_device(self, inputs: Mapping[str, Any], out: Any = None) -> dict[str, Any]:
        """Queue one run on device arrays, without copies and without waiting."""


@runtime_checkable
class InspectableRunner(Protocol):
    """Reports what its compiled model computes, layer by layer."""

    def information(self, inputs: Tensors | None = None, /) -> str:
        """Layers with their types, as the library's inspector reports them (JSON)."""

    def layer_seconds(self, inputs: Tensors, /) -> dict[str, float]:
        """Mean seconds per run of each layer; empty if the library reports none."""


@runtime_checkable
class ImageRunner(Protocol):
    """Does the resizing before and after the network itself."""

    def predict(self, image: np.ndarray, /) -> dict[str, np.ndarray]:
        """Turn an RGB image (H, W, 3) uint8 into maps (H, W) by output name: float32 depth or uint16 labels."""


@runtime_checkable
class ConfiguredRunner(Protocol):
    """Reports the options of its library that its speed depends on."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Values by name, as the library has them: threads, streams, types."""


@runtime_checkable
class ProviderRunner(Protocol):
    """Reports which parts of its library compute."""

    @property
    def providers(self) -> Sequence[str]:
        """Names of the parts that compute, in order of preference."""


def on_device(value: object) -> bool:
    """Return True if an array of any library says that it lies in the memory of an NVIDIA GPU.

    Nothing of CUDA is imported. The attributes are looked up, not declared as a protocol, because a host array may have
    a property of that name that raises :class:`AttributeError` (PyTorch's do).
    """
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and device()[0] == CUDA_DEVICE
