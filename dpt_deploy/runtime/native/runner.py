"""The runner ``native``: artefacts in the C++ runtime, and whole predictions in it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_uint64, sizeof
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import read_sidecar
from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.imaging.maps import map_of, map_type
from dpt_deploy.imaging.rules import require_rgb
from dpt_deploy.runtime.native import library as native
from dpt_deploy.runtime.predictor import Prediction, Predictor


class NativeRunner:
    """Runs an artefact in the C++ runtime. ``threads`` and ``size`` are those of :func:`dpt_deploy.load`."""

    name = "native"

    def __init__(self, path: Path, *, threads: int | None = None, size: Size | None = None) -> None:
        self._path = path
        self._threads = threads
        self._size = size or Size(0, 0)
        self._library = native.load_library()
        self._sidecar = read_sidecar(path)
        self._handle = c_uint64(0)

    def __enter__(self) -> Self:
        options = native.Options(
            struct_size=sizeof(native.Options),
            threads=self._threads or 0,
            height=self._size.height,
            width=self._size.width,
        )
        self._library.call("dpt_open", str(self._path).encode(), byref(options), byref(self._handle))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle.value:
            self._library.call("dpt_close", self._handle)
        self._handle = c_uint64(0)

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return self._sidecar.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return self._sidecar.outputs

    def infer(self, feed: Tensors) -> dict[str, np.ndarray]:
        """Run once.

        Raises:
            UsageError: the feed's name, dtype or shape does not fit the model.
            ResourceError: out of memory.
        """
        (name,) = (spec.name for spec in self.inputs)
        if feed.keys() != {name}:
            raise UsageError(f"the model does not accept {', '.join(feed)}", hint=f"feed its input {name}")
        values = np.ascontiguousarray(feed[name])
        if values.ndim != 4:
            raise UsageError(f"{name} has {values.ndim} dimensions; expected 4", hint="add the batch as the first")
        given = native.Tensor(
            struct_size=sizeof(native.Tensor),
            data=values.ctypes.data,
            dtype=str(values.dtype).encode(),
            rank=4,
            shape=values.shape,
        )
        found = native.Tensor(struct_size=sizeof(native.Tensor))
        self._library.call("dpt_infer", self._open(), byref(given), byref(found))
        return {self.outputs[0].name: _copied(found)}

    def predict(self, image: np.ndarray) -> np.ndarray:
        """An RGB image (H, W, 3) to depth (H, W) float32 or labels (H, W) uint16, all of it in C++."""
        require_rgb(image)
        pixels = np.ascontiguousarray(image)
        height, width = pixels.shape[:2]
        given = native.Image(
            struct_size=sizeof(native.Image), data=pixels.ctypes.data, height=height, width=width, row_bytes=3 * width
        )
        task = self._sidecar.outputs[0].kind
        values = np.empty((height, width), map_type(task))
        function = "dpt_predict_labels" if task.of_classes else "dpt_predict_depth"
        self._library.call(function, self._open(), byref(given), values.ctypes.data, values.size)
        return values

    def timing(self) -> native.NativeTiming:
        """Seconds of the last prediction, by step."""
        found = native.NativeTiming(struct_size=sizeof(native.NativeTiming))
        self._library.call("dpt_get_timing", self._open(), byref(found))
        return found

    def synchronize(self) -> None:
        """``infer`` returns finished arrays: nothing to wait for."""

    def _open(self) -> c_uint64:
        if not self._handle.value:
            raise DptError("the runner was used outside its 'with' block")
        return self._handle


class NativePredictor(Predictor):
    """A predictor whose resizing, too, is done in C++; the steps one by one are those of Python, with equal numbers."""

    def __init__(self, runner: NativeRunner, sidecar: Sidecar, *, size: Size | None = None) -> None:
        super().__init__(runner, sidecar, size=size)
        if len(sidecar.outputs) > 1:
            raise UsageError(
                "the C++ runtime predicts one output; this model has several", hint="use another runtime: ort"
            )
        self._native = runner

    def predict(self, image: np.ndarray) -> Prediction:
        values = self._native.predict(image)
        output = self._sidecar.outputs[0]
        found = map_of(output.kind, values, self._sidecar.model)
        return Prediction(self.network_size(*image.shape[:2]), {output.name: found})

    __call__ = predict


def _copied(tensor: native.Tensor) -> np.ndarray:
    """The array of a tensor that belongs to the library."""
    values = np.empty(tuple(tensor.shape[: tensor.rank]), tensor.dtype.decode())
    ctypes.memmove(values.ctypes.data, tensor.data, values.nbytes)
    return values
