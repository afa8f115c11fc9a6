"""The predictor of an engine that also resizes on the GPU: an image goes up, a map comes down, nothing in between.

Not run on a GPU yet (see ``trt_runner``).
"""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType
from typing import Any, Self

import numpy as np

from dpt_deploy.core import imaging
from dpt_deploy.core.artifact import Sidecar
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.spec import Size
from dpt_deploy.runtime._device_arrays import DeviceArray, device_view
from dpt_deploy.runtime._device_imaging import DeviceImaging
from dpt_deploy.runtime._kernels import kernels_of
from dpt_deploy.runtime.predictor import Prediction, Predictor, refuse_not_finite
from dpt_deploy.runtime.trt_runner import TrtRunner
from dpt_deploy.runtime.where import on_device

_KEPT_SIZES = 4


class DevicePredictor(Predictor):
    """Applies an engine to RGB images, on host or device; use it in a ``with`` block inside that of the runner.

    Of an image that lies on the device (torch, CuPy, pycuda, JAX: uint8 (H, W, 3), contiguous) depth or labels are
    arrays of the device too (:class:`DeviceArray`). Threads take turns.
    """

    def __init__(self, runner: TrtRunner, sidecar: Sidecar, *, size: Size | None = None) -> None:
        super().__init__(runner, sidecar, size=size)
        self._engine = runner
        self._resizing: DeviceImaging | None = None
        self._ends: OrderedDict[Size, tuple[DeviceArray, DeviceArray]] = OrderedDict()

    def __enter__(self) -> Self:
        with self._engine.exclusive() as opened:
            self._resizing = DeviceImaging(opened.stream, kernels_of(opened.device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._engine.exclusive():
            self._ends.clear()
            resizing, self._resizing = self._resizing, None
            try:
                if resizing is not None:
                    resizing.close()
            except DptError:
                if error is None:  # else a lost GPU says so once more
                    raise

    def predict(self, image: Any) -> Prediction:
        with self._engine.exclusive() as opened:
            there = on_device(image)
            source = device_view(image, opened.stream) if there else image
            imaging.require_rgb(np.broadcast_to(np.zeros((), source.dtype), source.shape) if there else image)
            size = Size(*source.shape[:2])
            try:
                output = self._through_network(source, self.network_size(size.height, size.width))
                if output.dtype.kind == "f":
                    refuse_not_finite(self._imaging.finite(output))
                result = self._finished(output, size, there=there)
                opened.stream.synchronize()  # from here on the image may change, or go
            except BaseException:
                opened.settle()
                raise
            return result

    __call__ = predict

    @property
    def _imaging(self) -> DeviceImaging:
        if self._resizing is None:
            raise DptError("the predictor was used outside its 'with' block")
        return self._resizing

    def _through_network(self, image: Any, size: Size) -> DeviceArray:
        """The raw output, in memory that the next image of this size uses again, so that the run is replayed."""
        name, output = self._sidecar.inputs[0].name, self._sidecar.outputs[0].name
        given, out = self._ends.pop(size, (None, None))
        if given is None:
            given = self._new_input(size)
        self._imaging.prepare(image, self._image, given)
        result: DeviceArray = self._engine.infer_device({name: given}, out=out)[output]
        self._ends[size] = given, result  # the last one used is the last one to go
        while len(self._ends) > _KEPT_SIZES:
            self._ends.popitem(last=False)  # freed with the objects, after what is queued
        return result

    def _new_input(self, size: Size) -> DeviceArray:
        bytes_in = self._sidecar.input_kind == "uint8"
        shape = (1, size.height, size.width, 3) if bytes_in else (1, 3, size.height, size.width)
        return self._imaging.new(shape, np.dtype(np.uint8 if bytes_in else np.float32))

    def _finished(self, output: DeviceArray, size: Size, *, there: bool) -> Prediction:
        model, network_size = self._sidecar.model, self.network_size(size.height, size.width)
        depth = model.task == "depth"
        result = self._imaging.depth(output, size) if depth else self._imaging.labels(output, size)
        found: Any = result if there else self._imaging.to_host(result)
        if depth:
            return Prediction(network_size, depth=found, metric=model.metric is not None)
        return Prediction(network_size, labels=found, num_classes=model.num_classes)
