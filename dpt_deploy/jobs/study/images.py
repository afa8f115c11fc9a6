"""Images of a study and their evaluation protocol; see :mod:`~dpt_deploy.jobs.study.scene_images` for scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import resolved
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.core.task import DEPTH_TASKS
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.evaluate import evaluate_plane, evaluate_sample, resize_bilinear
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.datasets.registry import open_dataset
from dpt_deploy.jobs.study.outcome import Data
from dpt_deploy.measure.metrics import zero_shot_depth

Map = NDArray[np.floating[Any]]
_ALIGNED = "AbsRel after per-image scale and shift in inverse depth (least squares)"
_METRIC = "AbsRel of depth in metres, unaligned"


@dataclass(frozen=True)
class Images:
    """Named images with ground truth, read one at a time, and their evaluation protocol.

    ``sky`` is the inverse depth to show where the ground truth is unknown (NaN: unknown). ``whole_frame`` images enter
    a network at exactly the requested size; others follow the protocol's resize rule and keep their aspect. ``kind``
    returns the kind of a scene, or an empty string for the images of a data set.
    """

    data: Data
    names: Sequence[str]
    protocol: Protocol
    read_sample: Callable[[str], Sample]
    kind: Callable[[str], str]
    sky: float
    whole_frame: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks whose output is scored."""
        return DEPTH_TASKS

    def read(self, name: str) -> tuple[Sample, dict[str, float]]:
        """Read an image with its ground truth, and the errors of the best plane.

        Raises:
            BadFileError: the image cannot be read, or has no pixel to measure.
        """
        sample = self.read_sample(name)
        plane = evaluate_plane(self.protocol, sample)
        if not plane:
            raise BadFileError(f"{name} has no pixel with ground truth to measure", hint="leave it out")
        return sample, plane

    def errors(self, output: NDArray[Any], sample: Sample) -> dict[str, float]:
        """Errors of a network's output, (h, w) at any size, by the names of ``protocols.METRICS``."""
        found = evaluate_sample(self.protocol, output, sample)
        if not isinstance(found, dict):
            raise TypeError(f"the protocol of {self.data.name} does not score depth")
        return found

    def truth(self, sample: Sample) -> Map:
        """Inverse depth (H, W) in 1/m for display, NaN where it is unknown."""
        depth = _depth(sample)
        return np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), self.sky)

    def nearness(self, output: NDArray[Any], sample: Sample) -> Map:
        """A network's output as inverse depth (H, W) in 1/m, aligned as for its error."""
        resized = resize_bilinear(output, Size(*sample.valid.shape))
        if self.protocol.kind == "metric":
            return 1 / np.maximum(resized, 1e-6)
        return 1 / zero_shot_depth(resized, _depth(sample), sample.valid, self.protocol.cap)

    def rule(self, image: ImageSpec, size: Size) -> ImageSpec:
        """Image rule of a network that runs at ``size``."""
        sized = replace(image, height=size.height, width=size.width)
        if self.whole_frame:
            return replace(sized, keep_aspect=False)
        return replace(sized, keep_aspect=True, resize=self.protocol.resize)

    def check(self, model: ModelSpec) -> None:
        """Raise :class:`UsageError` unless the model returns the kind of depth that the protocol scores."""
        metric = self.protocol.kind == "metric"
        if model.output_quantity != ("metres" if metric else "inverse depth"):
            wanted = "depth in metres" if metric else "inverse depth"
            raise UsageError(
                f"{self.data.name} measures {wanted}; {model.name} returns {model.output_quantity or 'labels'}",
                hint="choose a model with that output, for example hybrid-nyu for nyu-metric",
            )


def data_set(spec: str, limit: int | None) -> Images:
    """Open the depth data set ``NAME:DIR``, or its first ``limit`` images.

    Raises:
        UsageError: the text has another form, the name is unknown, or the data set has no depth.
        BadFileError: the folder is missing or incomplete.
    """
    opened = open_dataset(spec)
    if opened.protocol.kind not in ("zero-shot", "metric"):
        raise UsageError(
            f"{opened.name} has no depth to measure", hint="choose a depth data set, for example nyu or kitti"
        )
    position = {name: index for index, name in enumerate(opened.names)}
    folder = resolved(Path(spec.partition(":")[2]).expanduser())
    return Images(
        Data(opened.name, described(opened.protocol), f"{opened.name} {folder}"),
        list(opened.names)[:limit],
        opened.protocol,
        lambda name: opened[position[name]],
        lambda _name: "",
        sky=float("nan"),
        whole_frame=False,
    )


def described(protocol: Protocol) -> str:
    """Describe the measure of a protocol and how the scores of images are combined."""
    measure = _METRIC if protocol.kind == "metric" else _ALIGNED
    crop = f", {protocol.crop} crop" if protocol.crop != "none" else ""
    return f"{measure}; predictions end at {protocol.cap:g} m{crop}; mean over images"


def _depth(sample: Sample) -> NDArray[np.float32]:
    if sample.depth is None:
        raise ValueError(f"{sample.name} has no depth")
    return sample.depth
