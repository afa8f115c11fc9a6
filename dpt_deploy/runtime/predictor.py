"""Image in, maps out, over any runner: the original's pre- and post-processing around the network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.runner import AsyncRunner, ConcurrentRunner, DeviceRunner, ImageRunner, Runner, on_device
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.core.task import CANONICAL_DEPTH, DEPTH_TASKS, LABEL_TASKS, METRIC_DEPTH, SKY
from dpt_deploy.imaging import rules
from dpt_deploy.imaging.maps import FocalLength, Map, map_of, to_map
from dpt_deploy.imaging.sky import filled_sky
from dpt_deploy.runtime.overlap import overlapped


@dataclass(frozen=True)
class Prediction:
    """The maps of one image by output name, at the image's own resolution.

    :attr:`depth` and :attr:`labels` are shortcuts to the first map of their kind, as are
    ``prediction["depth"]`` and ``prediction["labels"]``.
    """

    network_size: Size
    maps: Mapping[str, Map]

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of ``depth``, of ``labels``, or of an output by its name; raises ``KeyError`` without it."""
        found = {"depth": self.depth, "labels": self.labels}.get(name)
        return self.maps[name].values if found is None else found

    @property
    def depth(self) -> np.ndarray | None:
        """(H, W) float32, in the units of :attr:`quantity`; None without depth."""
        found = self._first(*DEPTH_TASKS)
        return found.values if found else None

    @property
    def labels(self) -> np.ndarray | None:
        """(H, W) uint16: 1 is the first class, 0 is never predicted (the palette's background); None without labels."""
        found = self._first(*LABEL_TASKS)
        return found.values if found else None

    @property
    def quantity(self) -> str:
        """The quantity of :attr:`depth`, such as ``inverse depth`` or ``metres``; empty without depth."""
        found = self._first(*DEPTH_TASKS)
        return found.task.quantity if found else ""

    @property
    def metric(self) -> bool:
        """True if :attr:`depth` is in metres."""
        return self._first(METRIC_DEPTH.name) is not None

    def in_metres(self, focal: float | tuple[float, float]) -> Prediction:
        """This prediction with canonical depth turned into metres (:meth:`Map.in_metres`); other maps stay.

        ``focal`` is the focal length of the camera in pixels of the image: one number, or those along width and height
        (fx, fy of its intrinsics).

        Raises:
            UsageError: no map has canonical depth, the focal length is not positive, or the map lies on a GPU.
        """
        length = focal_length(focal)
        if CANONICAL_DEPTH.name not in {found.task.name for found in self.maps.values()}:
            raise not_canonical(self.quantity)
        if any(on_device(found.values) for found in self.maps.values() if found.camera):
            raise UsageError("this map lies on a GPU", hint="run the model on images of the host")
        maps = {
            name: found.in_metres(length, self.network_size) if found.camera else found
            for name, found in self.maps.items()
        }
        return replace(self, maps=maps)

    @property
    def num_classes(self) -> int:
        """The number of classes of :attr:`labels`; 0 without labels."""
        found = self._first(*LABEL_TASKS)
        return found.num_classes if found else 0

    def _first(self, *tasks: str) -> Map | None:
        return next((each for each in self.maps.values() if each.task.name in tasks), None)


def focal_length(value: float | tuple[float, float]) -> FocalLength:
    """A focal length from one number, or from those of both axes, in pixels.

    Raises:
        UsageError: it is not positive and finite.
    """
    found = FocalLength(*value) if isinstance(value, tuple) else FocalLength(value, value)
    if not all(0 < each < math.inf for each in found):
        raise UsageError(
            f"the focal length is {value}; expected a positive number of pixels",
            hint="a camera's intrinsics have it as fx and fy; from a field of view: width / (2 tan(fov / 2))",
        )
    return found


def not_canonical(quantity: str) -> UsageError:
    """Make the error for a focal length that is given for a model whose output does not depend on it."""
    return UsageError(
        f"this model returns {quantity or 'no depth'}; a focal length does not change it",
        hint="leave the focal length out; only canonical depth becomes metres by it",
    )


class Predictor:
    """Applies a model to RGB images. The runner must be entered by the caller.

    ``size`` replaces the resize rule of the sidecar by a fixed network size; ``image`` replaces its whole image rule.
    """

    def __init__(
        self, runner: Runner, sidecar: Sidecar, *, size: Size | None = None, image: ImageSpec | None = None
    ) -> None:
        self._runner = runner
        self._sidecar = sidecar
        self._image = _fixed(image or sidecar.image, size or sidecar.shapes.static_size)
        self._stride = sidecar.model.stride

    @property
    def sidecar(self) -> Sidecar:
        """The sidecar of the artefact."""
        return self._sidecar

    def network_size(self, height: int, width: int) -> Size:
        """Return the network size for an image of ``height`` x ``width`` pixels."""
        return rules.network_size(height, width, self._image, self._stride)

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Turn an RGB image (H, W, 3) uint8 into the network's inputs, batch 1."""
        to_input = rules.resize_uint8_input if self._sidecar.input_kind == "uint8" else rules.preprocess
        return {self._sidecar.inputs[0].name: to_input(image, self._image, self._stride)}

    def infer(self, inputs: Mapping[str, Any]) -> Any:
        """Run the network alone on inputs from :meth:`prepare`; return the raw output of a model with one output.

        Raises:
            UsageError: the model has several outputs, or for the reasons of :meth:`infer_all`.
        """
        if len(self._sidecar.outputs) > 1:
            names = ", ".join(output.name for output in self._sidecar.outputs)
            raise UsageError(f"the model has several outputs: {names}", hint="use infer_all(), which returns them all")
        return self.infer_all(inputs)[self._sidecar.outputs[0].name]

    def infer_all(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the network alone on inputs from :meth:`prepare`; return its raw outputs by name.

        An engine also takes arrays on its GPU (torch, CuPy, JAX). Then nothing is copied, the call does not wait, and
        the outputs are arrays on the GPU too (:class:`DeviceArray`).

        Raises:
            UsageError: the inputs do not fit the network, or are on a GPU and the runtime takes host arrays only.
        """
        if not any(map(on_device, inputs.values())):
            return self._runner.infer(inputs)
        if not isinstance(self._runner, DeviceRunner):
            raise UsageError(
                f"runtime {self._runner.name!r} takes host arrays; this one is on a GPU",
                hint="copy it to the host, or build an engine: dpt-deploy build MODEL.onnx",
            )
        return self._runner.infer_device(inputs)

    def finish(self, outputs: Mapping[str, np.ndarray], height: int, width: int) -> Prediction:
        """Turn the network's outputs of batch 1 into maps at the image's own resolution; the sky's depth is filled.

        Raises:
            ParityError: an output holds NaN or infinity.
        """
        size, model = Size(height, width), self._sidecar.model
        for output in self._sidecar.outputs:
            if outputs[output.name].dtype.kind == "f":
                refuse_not_finite(bool(np.isfinite(outputs[output.name]).all()))
        raw = self._with_filled_sky(outputs)
        maps = {
            output.name: to_map(output.kind, raw[output.name], size, model, self._image.restore)
            for output in self._sidecar.outputs
        }
        return Prediction(self.network_size(height, width), maps)

    def _with_filled_sky(self, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        rule = self._sidecar.model.sky
        sky = [output.name for output in self._sidecar.outputs if output.task == SKY.name]
        if rule is None or not sky:
            return outputs
        depth = next(output.name for output in self._sidecar.outputs if output.task in DEPTH_TASKS)
        return {**outputs, depth: filled_sky(outputs[depth][0], outputs[sky[0]][0], rule)[None]}

    def predict(self, image: np.ndarray) -> Prediction:
        """Predict the maps of an RGB image (H, W, 3) uint8, at the same height and width.

        Raises:
            UsageError: the array is not an RGB image, or the model cannot take its size.
            ResourceError: out of memory.
        """
        return self.end(self.compute(self.begin(image)), Size(*image.shape[:2]))

    __call__ = predict

    def begin(self, image: np.ndarray) -> Any:
        """The first part of :meth:`predict`, in which any number of threads may be at once: all before the network."""
        refuse_on_device(image)
        rules.require_rgb(image)
        return image if isinstance(self._runner, ImageRunner) else self.prepare(image)

    def compute(self, begun: Any) -> Any:
        """The second part: the network, on what :meth:`begin` returned."""
        return self._runner.predict(begun) if isinstance(self._runner, ImageRunner) else self.infer_all(begun)

    def end(self, computed: Any, size: Size) -> Prediction:
        """The last part, in which any number of threads may be at once: the maps of an image of ``size``."""
        if not isinstance(self._runner, ImageRunner):
            return self.finish(computed, size.height, size.width)
        outputs, model = self._sidecar.outputs, self._sidecar.model
        maps = {each.name: map_of(each.kind, computed[each.name], model) for each in outputs}
        return Prediction(self.network_size(size.height, size.width), maps)

    def predict_all(self, images: Iterable[Any]) -> Iterator[Prediction]:
        """Yield the prediction of each image, in order; meant for the frames of a video.

        With an engine, one image is copied and resized while another is computed. The error of an image is raised after
        the predictions of the images before it.

        Raises:
            UsageError, ParityError, ResourceError: for the reasons of :meth:`predict`.
        """
        if not self.overlaps:
            return map(self.predict, images)
        return overlapped(images, self._begin, self._end)

    @property
    def overlaps(self) -> bool:
        """True if :meth:`predict_all` computes one image while it copies another."""
        return isinstance(self._runner, AsyncRunner)

    @property
    def streams(self) -> int:
        """Number of threads that may be in :meth:`compute` at once."""
        return self._runner.streams if isinstance(self._runner, ConcurrentRunner) else 1

    def _begin(self, image: Any, wait: bool) -> Any:
        refuse_on_device(image)
        rules.require_rgb(image)
        runner: Any = self._runner  # an AsyncRunner: predict_all asks
        ticket = runner.submit(self.prepare(image)) if wait else runner.try_submit(self.prepare(image))
        return ticket and (ticket, *image.shape[:2])

    def _end(self, begun: Any) -> Prediction:
        ticket, height, width = begun
        runner: Any = self._runner
        return self.finish(runner.collect(ticket), height, width)


def refuse_on_device(image: Any) -> None:
    """Raise :class:`UsageError` for an image on a GPU, which this predictor cannot resize."""
    if on_device(image):
        raise UsageError(
            "images are resized on the host; this one is on a GPU",
            hint="copy it to the host, load an engine with device_imaging=True, or pass the network's own input on "
            "the device to infer()",
        )


def refuse_not_finite(finite: bool) -> None:
    """Raise :class:`ParityError` for an output that is not finite."""
    if not finite:
        raise ParityError("the network returned NaN or Inf", hint="run `dpt-deploy verify` on this artefact")


def _fixed(image: ImageSpec, size: Size | None) -> ImageSpec:
    return replace(image, height=size.height, width=size.width, keep_aspect=False) if size else image
