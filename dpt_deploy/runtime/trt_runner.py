"""TensorRT and TensorRT-RTX: runs a plan on the GPU that it was built for.

Nothing of this file has run on a GPU yet: its logic is tried over stand-ins (``tests/stages/test_trt_runner.py``), and
``tests/gpu/test_engine.py`` waits for a machine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime._trt_engine import DeviceArray, OpenEngine

KEPT_SHAPES = 8


class TrtRunner:
    """Runs a plan. ``profiles`` are those of its sidecar; ``stream`` is a raw handle of the caller's (default: own).

    May be called from several threads; they take turns.
    """

    name = "trt"

    def __init__(
        self,
        path: Path,
        *,
        library: str,
        profiles: Sequence[Profile],
        stream: int | None = None,
        kept_shapes: int = KEPT_SHAPES,
    ) -> None:
        self._path, self._profiles, self._wanted_stream = path, tuple(profiles), stream
        self._trt: Any = import_module(library)
        self._kept = kept_shapes
        self._turn = threading.RLock()
        self._open: OpenEngine | None = None

    def __enter__(self) -> Self:
        with self._turn:
            self._open = OpenEngine(self._trt, self._path, self._profiles, self._wanted_stream, self._kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            opened, self._open = self._open, None
            if opened is None:
                return
            try:
                opened.close()
            except DptError:
                if error is None:  # else a lost GPU says so once more
                    raise

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return (self._opened().input,)

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return (self._opened().output,)

    def infer(self, feed: Tensors) -> dict[str, np.ndarray]:
        """Run once, from host to host.

        Raises:
            UsageError: the feed's name, dtype or shape does not fit the engine; the message names its profiles.
            ResourceError: the GPU ran out of memory, or failed.
        """
        with self._turn:
            opened = self._opened()
            value = np.ascontiguousarray(_only(feed, opened.input))
            batch, size = opened.check(value.shape, value.dtype)
            return {opened.output.name: opened.run_host(value, batch, size)}

    def infer_device(self, feed: Mapping[str, Any]) -> dict[str, DeviceArray]:
        """Queue one run on arrays that are on the device already; nothing is copied, nothing waited for.

        Takes whatever has ``__cuda_array_interface__`` (torch, CuPy, pycuda). The array must stay as it is until the
        stream has come so far.
        """
        with self._turn:
            opened = self._opened()
            interface = _interface(_only(feed, opened.input))
            batch, size = opened.check(tuple(interface["shape"]), np.dtype(interface["typestr"]))
            return {opened.output.name: opened.run_device(int(interface["data"][0]), interface["shape"], batch, size)}

    def information(self) -> str:
        """What the engine's inspector says of its layers (JSON), for an audit."""
        return self._opened().information()

    def synchronize(self) -> None:
        """Wait for work queued on the runner's stream."""
        self._opened().stream.synchronize()

    def _opened(self) -> OpenEngine:
        if self._open is None:
            raise DptError("the runner was used outside its 'with' block")
        return self._open


def _only(feed: Mapping[str, Any], spec: TensorSpec) -> Any:
    if set(feed) != {spec.name}:
        raise UsageError(
            f"the engine takes {spec.name!r}; the feed has {', '.join(map(repr, sorted(feed))) or 'nothing'}",
            hint="see its inputs with `dpt-deploy inspect`",
        )
    return feed[spec.name]


def _interface(value: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = getattr(value, "__cuda_array_interface__", None)
    if found is None:
        raise UsageError(
            f"{type(value).__name__} is not on the device: it has no __cuda_array_interface__",
            hint="give a CUDA tensor of torch, CuPy or pycuda, or use infer() for arrays of the host",
        )
    if found.get("strides") is not None:
        raise UsageError("the array on the device is not contiguous", hint="copy it into order first")
    return found
