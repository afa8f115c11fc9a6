"""Runner ``native``: artefacts in the C++ library, which also resizes images and maps."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import byref, c_uint64, sizeof
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.imaging.maps import map_type
from dpt_deploy.imaging.rules import require_rgb
from dpt_deploy.runtime.native import library as native
from dpt_deploy.runtime.request import RunnerRequest


class NativeRunner:
    """Runs an artefact in the C++ library.

    ``size`` is a fixed network size for :meth:`predict`. ``backend`` names the library's back end (``onnxruntime``,
    ``openvino``, ``tensorrt``); empty: the first that runs the kind of file.
    """

    name = "native"

    def __init__(
        self,
        path: Path,
        sidecar: Sidecar,
        *,
        threads: int | None = None,
        size: Size | None = None,
        backend: str = "",
    ) -> None:
        self._path = path
        self._backend = backend
        self._threads = threads
        self._size = size or Size(0, 0)
        self._library = native.load_library()
        self._sidecar = sidecar
        self._handle = c_uint64(0)

    @classmethod
    def open(cls, request: RunnerRequest) -> Self:
        """Make a runner of an artefact.

        Raises:
            MissingExtraError: the C++ library is not built.
            IncompatibleError: it belongs to another version of this package.
        """
        sidecar = request.described()
        return cls(request.path, sidecar, threads=request.threads, size=request.size)

    def __enter__(self) -> Self:
        options = native.Options(
            struct_size=sizeof(native.Options),
            backend=self._backend.encode() or None,
            threads=self._threads or 0,
            height=self._size.height,
            width=self._size.width,
        )
        self._library.call("dpt_open", os.fsencode(self._path), byref(options), byref(self._handle))
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

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run once.

        Raises:
            UsageError: name, dtype or shape of the input does not fit the model.
            ResourceError: out of memory.
        """
        (name,) = (spec.name for spec in self.inputs)
        if inputs.keys() != {name}:
            raise UsageError(f"the model does not accept {', '.join(inputs)}", hint=f"give its input {name}")
        values = np.ascontiguousarray(inputs[name])
        if values.ndim != 4:
            raise UsageError(
                f"{name} has {values.ndim} dimensions; expected 4", hint="add the batch as the first dimension"
            )
        given = native.Tensor(
            struct_size=sizeof(native.Tensor),
            data=values.ctypes.data,
            dtype=str(values.dtype).encode(),
            rank=4,
            shape=values.shape,
        )
        first, *others = (output.name for output in self.outputs)
        found = native.Tensor(struct_size=sizeof(native.Tensor))
        self._library.call("dpt_infer", self._open(), byref(given), byref(found))
        return {first: _copied(found), **{name: self._output(name) for name in others}}

    def _output(self, name: str) -> np.ndarray:
        """Return a copy of one output of the last run (:meth:`infer` or :meth:`predict`)."""
        found = native.Tensor(struct_size=sizeof(native.Tensor))
        self._library.call("dpt_get_output", self._open(), name.encode(), byref(found))
        return _copied(found)

    def predict(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Turn an RGB image (H, W, 3) uint8 into the map (H, W) of each output by name, entirely in C++.

        Raises:
            UsageError: it is no such image, or an output is neither depth, the sky nor a segmentation.
            ParityError: the network returned NaN or infinity.
        """
        require_rgb(image)
        pixels = np.ascontiguousarray(image)
        height, width = pixels.shape[:2]
        given = native.Image(
            struct_size=sizeof(native.Image), data=pixels.ctypes.data, height=height, width=width, row_bytes=3 * width
        )
        self._library.call("dpt_predict", self._open(), byref(given))
        maps = {}
        for output in self._sidecar.outputs:
            values = np.empty((height, width), map_type(output.kind))
            function = "dpt_get_labels" if output.kind.of_classes else "dpt_get_map"
            self._library.call(function, self._open(), output.name.encode(), values.ctypes.data, values.size)
            maps[output.name] = values
        return maps

    def timing(self) -> native.NativeTiming:
        """Return the seconds of the last prediction, step by step."""
        found = native.NativeTiming(struct_size=sizeof(native.NativeTiming))
        self._library.call("dpt_get_timing", self._open(), byref(found))
        return found

    def synchronize(self) -> None:
        """``infer`` returns finished arrays: nothing to wait for."""

    def _open(self) -> c_uint64:
        if not self._handle.value:
            raise DptError("the runner was used outside its 'with' block")
        return self._handle


def _copied(tensor: native.Tensor) -> np.ndarray:
    """Copy a tensor that belongs to the library."""
    values = np.empty(tuple(tensor.shape[: tensor.rank]), tensor.dtype.decode())
    ctypes.memmove(values.ctypes.data, tensor.data, values.nbytes)
    return values
