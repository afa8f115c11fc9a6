"""Predictor for an engine that also resizes on the GPU: an image is uploaded, a map is downloaded, nothing in between.

Experimental: not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.runner import on_device
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import rules
from dpt_deploy.imaging.maps import map_of, map_type
from dpt_deploy.runtime.cuda.arrays import DeviceArray, device_view
from dpt_deploy.runtime.predictor import Prediction, Predictor, refuse_not_finite
from dpt_deploy.runtime.tensorrt.engine import OpenEngine
from dpt_deploy.runtime.tensorrt.frames import DeviceFrame
from dpt_deploy.runtime.tensorrt.kernels import kernels_of
from dpt_deploy.runtime.tensorrt.resizing import DeviceImaging
from dpt_deploy.runtime.tensorrt.runner import TrtRunner


@dataclass(frozen=True)
class _Underway:
    """An image whose map is queued: its frame, its size, and the map where it stays on the device."""

    frame: DeviceFrame
    size: Size
    there: DeviceArray | None


class DevicePredictor(Predictor):
    """Applies an engine to RGB images on host or device; use it in a ``with`` block inside that of the runner.

    Experimental: not yet run on a GPU.

    Of an image that lies on the device (torch, CuPy, JAX: uint8 (H, W, 3), contiguous) depth or labels are
    arrays of the device too (:class:`DeviceArray`). Threads take turns; :meth:`predict_all` overlaps the copies of one
    image with the run of another.
    """

    def __init__(self, runner: TrtRunner, sidecar: Sidecar, *, size: Size | None = None) -> None:
        super().__init__(runner, sidecar, size=size)
        self._engine = runner
        if len(sidecar.outputs) > 1:
            raise UsageError(
                "an engine with several outputs cannot be resized on the GPU yet", hint="leave device_imaging out"
            )
        self._output = sidecar.outputs[0]
        self._resizing: DeviceImaging | None = None
        self._frames: list[DeviceFrame] = []
        self._free: list[DeviceFrame] = []

    def __enter__(self) -> Self:
        with self._engine.exclusive() as opened:
            self._resizing = DeviceImaging(opened.stream, kernels_of(opened.device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._engine.exclusive() as opened:
            self._engine.wait_for_users()
            resizing, self._resizing = self._resizing, None
            frames, self._frames, self._free = self._frames, [], []
            try:
                with ExitStack() as steps:  # executed in reverse order
                    if resizing is not None:
                        steps.callback(resizing.close)
                    for frame in frames:
                        steps.callback(frame.close)
                    steps.callback(opened.settle)
            except DptError:
                if error is None:  # otherwise a lost GPU would raise a second error
                    raise

    def predict(self, image: Any) -> Prediction:
        with self._engine.exclusive():
            return self._end(self._begin(image))

    __call__ = predict

    def stages(self, image: np.ndarray) -> dict[str, Callable[[], object]]:
        """Return the parts of :meth:`predict` for an image of the host, each as a call to time.

        A call queues its part or waits for it; :meth:`synchronize` waits for all. Valid while the predictor is open.
        """
        size = Size(*image.shape[:2])
        network_size = self.network_size(size.height, size.width)
        frame = self._take_frame()
        with self._engine.exclusive():  # memory, filters, the first run
            there = frame.upload(image)
            frame.follow()
            out = self._through_network(frame, there, size)
            given, _ = frame.ends(network_size) or (out, out)

        def up() -> None:
            frame.upload(image)
            frame.follow()

        def down() -> np.ndarray:
            frame.download(self._map_bytes(size))
            frame.wait()
            return frame.taken((size.height, size.width), self._map_type)

        parts: dict[str, Callable[[], object]] = {
            "upload": up,
            "prepare": lambda: self._imaging.prepare(there, size, self._image, given),
            "model": lambda: self._run(given, out),
            "finish": lambda: self._resize(frame, out, size, frame.map(self._map_bytes(size))),
            "download": down,
        }
        return {name: self._alone(part) for name, part in parts.items()}

    def synchronize(self) -> None:
        """Wait for all work queued for images."""
        with self._engine.exclusive() as opened:
            for stream in opened.streams:
                stream.synchronize()

    def _alone(self, part: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with self._engine.exclusive():
                return part()

        return run

    @property
    def overlaps(self) -> bool:
        return True

    def _begin(self, image: Any, _wait: bool = True) -> _Underway:
        """Queue all work for an image; the image may be reused when this returns."""
        with self._engine.exclusive() as opened:
            there = on_device(image)
            source = device_view(image, opened.streams.up) if there else image
            rules.require_rgb(np.broadcast_to(np.zeros((), source.dtype), source.shape) if there else image)
            frame = self._take_frame()
            try:
                return self._queue(opened, frame, source, Size(*source.shape[:2]), there=there)
            except BaseException:
                opened.settle()
                self._free.append(frame)
                raise

    def _queue(self, opened: OpenEngine, frame: DeviceFrame, image: Any, size: Size, *, there: bool) -> _Underway:
        address = frame.take(image) if there else frame.upload(image)
        frame.follow()
        if there:
            frame.have()
        out = self._through_network(frame, address, size)
        kept = DeviceArray((size.height, size.width), self._map_type, opened.stream) if there else None
        self._resize(frame, out, size, kept.address if kept else frame.map(self._map_bytes(size)))
        if kept:
            kept.mark()
        frame.download(0 if kept else self._map_bytes(size))
        return _Underway(frame, size, kept)

    def _end(self, underway: _Underway) -> Prediction:
        """Wait for the maps of an image."""
        frame, size = underway.frame, underway.size
        with self._engine.in_use():
            if frame not in self._frames:
                raise DptError("the predictor was used outside its 'with' block")  # this image's block was closed
            try:
                refuse_not_finite(frame.wait())
                found: Any = underway.there
                if found is None:
                    found = frame.taken((size.height, size.width), self._map_type)
            finally:
                self._free.append(frame)
        network_size = self.network_size(size.height, size.width)
        return Prediction(network_size, {self._output.name: map_of(self._output.kind, found, self._sidecar.model)})

    @property
    def _imaging(self) -> DeviceImaging:
        if self._resizing is None:
            raise DptError("the predictor was used outside its 'with' block")
        return self._resizing

    @property
    def _map_type(self) -> np.dtype[Any]:
        return map_type(self._output.kind)

    def _map_bytes(self, size: Size) -> int:
        return size.height * size.width * self._map_type.itemsize

    def _take_frame(self) -> DeviceFrame:
        with self._engine.exclusive() as opened:
            _ = self._imaging
            if not self._free:
                self._frames.append(DeviceFrame(opened.streams))
                return self._frames[-1]
            return self._free.pop()

    def _through_network(self, frame: DeviceFrame, image: int, size: Size) -> DeviceArray:
        """The raw output, in memory that the frame's next image of this size uses again: the run is replayed then."""
        network_size = self.network_size(size.height, size.width)
        given, out = frame.ends(network_size) or (self._new_input(network_size), None)
        self._imaging.prepare(image, size, self._image, given)
        result = self._run(given, out)
        frame.keep(network_size, (given, result))
        return result

    def _run(self, given: DeviceArray, out: DeviceArray | None) -> DeviceArray:
        inputs = {self._sidecar.inputs[0].name: given}
        found: DeviceArray = self._engine.infer_device(inputs, out=out)[self._output.name]
        return found

    def _new_input(self, size: Size) -> DeviceArray:
        bytes_in = self._sidecar.input_kind == "uint8"
        shape = (1, size.height, size.width, 3) if bytes_in else (1, 3, size.height, size.width)
        return self._imaging.new(shape, np.dtype(np.uint8 if bytes_in else np.float32))

    def _resize(self, frame: DeviceFrame, output: DeviceArray, size: Size, target: int) -> None:
        if output.dtype.kind == "f":
            self._imaging.check(output, frame.flag)
        finish = self._imaging.labels if self._output.kind.of_classes else self._imaging.depth
        finish(output, size, target, self._image.restore)
