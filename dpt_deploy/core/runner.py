"""The one interface behind which PyTorch, ONNX Runtime and every later back end stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from dpt_deploy.core.spec import TensorSpec

Tensors = Mapping[str, np.ndarray]


class Runner(Protocol):
    """Runs one model. A context manager: resources are held from ``__enter__`` to ``__exit__``.

    ``infer`` is synchronous as seen by the caller: the arrays it returns are complete and owned by the caller.
    """

    name: str

    @property
    def inputs(self) -> Sequence[TensorSpec]: ...

    @property
    def outputs(self) -> Sequence[TensorSpec]: ...

    def infer(self, feed: Tensors) -> dict[str, np.ndarray]: ...

    def synchronize(self) -> None:
        """Wait for work queued on the device, if there is one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
