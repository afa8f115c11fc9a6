"""Image in, depth or segmentation out, over any runner: the original's pre- and post-processing around the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging import resample, rules
from dpt_deploy.runtime.cuda.where import on_device
from dpt_deploy.runtime.overlap import overlapped


@dataclass(frozen=True)
class Prediction:
    """What was seen in one image, at the image's own resolution.

    ``depth`` (H, W) float32: inverse depth up to scale and shift, or metres where ``metric``. ``labels`` (H, W) uint16:
    1 is the first class, 0 is never predicted (the palette's background).
    """

    network_size: Size
    depth: np.ndarray | None = None
    labels: np.ndarray | None = None
    metric: bool = False
    num_classes: int = 0


class Predictor:
    """Applies a model to RGB images. The runner must be entered by the caller.

    ``size`` replaces the resize rule of the sidecar by a fixed network size.
    """

    def __init__(self, runner: Runner, sidecar: Sidecar, *, size: Size | None = None) -> None:
        self._runner = runner
        self._sidecar = sidecar
        self._image = _fixed(sidecar.image, size or sidecar.shapes.static_size)
        self._stride = sidecar.model.stride

    def network_size(self, height: int, width: int) -> Size:
        """The size at which an image of ``height`` x ``width`` pixels enters the network."""
        return rules.network_size(height, width, self._image, self._stride)

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """RGB bytes (H, W, 3) to the network's feed, batch 1."""
        to_input = rules.resize_uint8_input if self._sidecar.input_kind == "uint8" else rules.preprocess
        return {self._sidecar.inputs[0].name: to_input(image, self._image, self._stride)}

    def infer(self, feed: Mapping[str, Any]) -> Any:
        """The network alone: a feed of :meth:`prepare` to its raw output.

        An engine also takes arrays that lie on the device (torch, CuPy, pycuda, JAX): nothing is copied then, nothing
        waited for, and the output is an array of the device as well (:class:`DeviceArray`).

        Raises:
            UsageError: the feed does not fit the network, or lies where the runtime cannot take it.
        """
        output = self._sidecar.outputs[0].name
        if not any(map(on_device, feed.values())):
            return self._runner.infer(feed)[output]
        run = getattr(self._runner, "infer_device", None)
        if run is None:
            raise UsageError(
                f"runtime {self._runner.name!r} takes arrays of the host; this one lies on a GPU",
                hint="copy it to the host, or build an engine: dpt-deploy build MODEL.onnx",
            )
        return run(feed)[output]

    def finish(self, output: np.ndarray, height: int, width: int) -> Prediction:
        """Network output of batch 1 to the image's own resolution."""
        model, size = self._sidecar.model, Size(height, width)
        network_size = self.network_size(height, width)
        if output.dtype.kind == "f":
            refuse_not_finite(bool(np.isfinite(output).all()))
        if model.task == "depth":
            depth = resample.resize_bicubic(output[0], size)
            return Prediction(network_size, depth=depth, metric=model.metric is not None)
        if self._sidecar.output_kind == "labels":
            labels = resample.resize_labels(output[0].astype(np.uint16) + 1, size)
        else:
            labels = resample.labels_from_logits(output[0], size)
        return Prediction(network_size, labels=labels, num_classes=model.num_classes)

    def predict(self, image: np.ndarray) -> Prediction:
        """RGB bytes (H, W, 3) to a prediction of the same height and width.

        Raises:
            UsageError: the array is not an RGB image, or the model cannot take its size.
            ResourceError: out of memory.
        """
        refuse_on_device(image)
        height, width = image.shape[:2]
        return self.finish(self.infer(self.prepare(image)), height, width)

    __call__ = predict

    def predict_all(self, images: Iterable[Any]) -> Iterator[Prediction]:
        """The prediction of each image, in order, for frames of a video and their like.

        Where an engine runs, one image is copied and resized while another is computed. What is wrong with an image is
        raised after the predictions of those before it; raises what :meth:`predict` raises.
        """
        if not self._overlaps:
            return map(self.predict, images)
        return overlapped(images, self._begin, self._end)

    @property
    def _overlaps(self) -> bool:
        return hasattr(self._runner, "submit")

    def _begin(self, image: Any, wait: bool) -> Any:
        refuse_on_device(image)
        runner: Any = self._runner
        ticket = runner.submit(self.prepare(image)) if wait else runner.try_submit(self.prepare(image))
        return ticket and (ticket, *image.shape[:2])

    def _end(self, begun: Any) -> Prediction:
        ticket, height, width = begun
        runner: Any = self._runner
        return self.finish(runner.collect(ticket)[self._sidecar.outputs[0].name], height, width)


def refuse_on_device(image: Any) -> None:
    """Raise :class:`UsageError` for an image that lies where nothing here can resize it."""
    if on_device(image):
        raise UsageError(
            "images are resized on the host; this one lies on a GPU",
            hint="copy it to the host, load an engine with device_imaging=True, or give the network's own input on "
            "the device to infer()",
        )


def refuse_not_finite(finite: bool) -> None:
    """Raise :class:`ParityError` for an output that is not finite."""
    if not finite:
        raise ParityError("the network returned NaN or Inf", hint="run `dpt-deploy verify` on this artefact")


def _fixed(image: ImageSpec, size: Size | None) -> ImageSpec:
    return replace(image, height=size.height, width=size.width, keep_aspect=False) if size else image
