"""Images to attack, with their truth and, if there is one, the target of the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec, ModelTask
from dpt_deploy.core.task import LABEL_TASKS
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.evaluate import evaluate_sample
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.datasets.registry import open_dataset
from dpt_deploy.imaging.resample import labels_from_logits, resize_labels
from dpt_deploy.jobs.attack.request import AttackRequest
from dpt_deploy.jobs.study import images as study_images
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.outcome import Data
from dpt_deploy.measure.metrics import SegmentationCounts

SIDE = 384  # pixels of the rendered scenes
FLIP = "flip"
_LABELLED = "share of labelled pixels with another class"


@dataclass(frozen=True)
class DepthPictures(Images):
    """Images with depth; with a ``target`` the errors include the one against the mirrored truth (``target``)."""

    target: str | None = None

    def errors(self, output: NDArray[Any], sample: Sample) -> dict[str, float]:
        found = super().errors(output, sample)
        if self.target:
            against = super().errors(output, mirrored(sample))
            found["target"] = (against["abs_rel"] + 1 - against["delta1"]) / 2
        return found


@dataclass(frozen=True)
class LabelledPictures(Images):
    """Images with labels; the error is the share of labelled pixels with another class.

    With a ``target``, a class, the errors include the share of labelled pixels that are not predicted as it.
    """

    target: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        return LABEL_TASKS

    def read(self, name: str) -> tuple[Sample, dict[str, float]]:
        return self.read_sample(name), {}

    def errors(self, output: NDArray[Any], sample: Sample) -> dict[str, float]:
        counts = evaluate_sample(self.protocol, self._own_labels(output), sample)
        if not isinstance(counts, SegmentationCounts):
            raise TypeError(f"the protocol of {self.data.name} does not score labels")
        found = {"error": 1 - counts.pixel_accuracy}
        if self.target:
            found["target"] = float(np.mean(self.labels(output, sample)[sample.valid] != int(self.target)))
        return found

    def check(self, model: ModelSpec) -> None:
        if model.num_classes != self.protocol.classes:
            raise UsageError(
                f"{self.data.name} has labels of {self.protocol.classes} classes; {model.name} returns "
                f"{model.num_classes or 'no'} classes",
                hint="choose a model that was trained with these classes, or other images with --data",
            )

    def labels(self, output: NDArray[Any], sample: Sample) -> NDArray[Any]:
        """1-based labels (H, W) of a network's output, at the size of the sample."""
        return resize_labels(self._own_labels(output), Size(*sample.valid.shape))

    def _own_labels(self, output: NDArray[Any]) -> NDArray[Any]:
        """1-based labels (h, w) of logits (classes, h, w) or 0-based labels (h, w)."""
        return labels_from_logits(output, Size(*output.shape[1:])) if output.ndim == 3 else output + 1


def mirrored(sample: Sample) -> Sample:
    """The sample with its depth mirrored from left to right: the target ``flip``."""
    if sample.depth is None:
        raise ValueError(f"{sample.name} has no depth")
    return replace(sample, depth=sample.depth[:, ::-1].copy(), valid=sample.valid[:, ::-1].copy())


def pictures(request: AttackRequest, model: ModelSpec, task: ModelTask) -> Images:
    """Open the images of a request for a ``task`` of a model: rendered scenes, or those of a data set.

    Raises:
        UsageError: the model returns something else than the images have, or the target does not suit it.
        BadFileError: the folder of the data set is missing or incomplete.
    """
    _check_target(request.target, model, task)
    if task == "segmentation":
        images: Images = _labelled_set(request) if request.data else _labelled_scenes(request)
    else:
        plain = study_images.data_set(request.data, request.limit) if request.data else _scenes(request)
        images = DepthPictures(**_parts(plain), target=request.target)
    images.check(model)
    return images


def _check_target(target: str | None, model: ModelSpec, task: ModelTask) -> None:
    if target is None:
        return
    segmentation, classes = task == "segmentation", model.num_classes
    fits = target.isdecimal() and 1 <= int(target) <= classes if segmentation else target == FLIP
    if not fits:
        expected = f"the number of a class, 1 to {classes}" if segmentation else FLIP
        raise UsageError(
            f"--target is {target!r}; expected {expected} for the {task} of {model.name}",
            hint="leave it out to raise the error in any direction; --task chooses a task of a network with several",
        )


def _scenes(request: AttackRequest) -> Images:
    scenes = load_attribute("dpt_deploy.jobs.study.scene_images:scenes", which="export", purpose="rendering scenes")
    found: Images = scenes(min(request.scenes, request.limit or request.scenes), request.seed, SIDE)
    return found


def _labelled_scenes(request: AttackRequest) -> LabelledPictures:
    """Rendered scenes with their exact labels (1-based)."""
    render = load_attribute("dpt_deploy.scenes.render:render_scene", which="export", purpose="rendering scenes")
    classes: Sequence[str] = load_attribute("dpt_deploy.scenes.things:CLASSES", which="export", purpose="labels")
    plain = _scenes(request)

    def read(name: str) -> Sample:
        scene = render(int(name.removeprefix("scene-")), height=SIDE, width=SIDE)
        return Sample(name, scene.image, np.ones(scene.labels.shape, bool), labels=scene.labels + np.uint8(1))

    protocol = Protocol(
        "segmentation", "pixel_accuracy", len(plain.names), Size(SIDE, SIDE), "minimal", classes=len(classes)
    )
    data = replace(plain.data, name="rendered scenes with labels", protocol=_LABELLED, key=f"labelled {plain.data.key}")
    parts = (data, plain.names, protocol, read, plain.kind, plain.sky, plain.whole_frame)
    return LabelledPictures(*parts, target=request.target)


def _labelled_set(request: AttackRequest) -> LabelledPictures:
    opened = open_dataset(request.data or "")
    if opened.protocol.kind != "segmentation":
        raise UsageError(f"{opened.name} has no labels", hint="choose ade20k or pascal-context, or attack depth")
    position = {name: index for index, name in enumerate(opened.names)}
    data = Data(opened.name, _LABELLED, f"{opened.name} {request.data}")
    names = list(opened.names)[: request.limit]
    return LabelledPictures(
        data,
        names,
        opened.protocol,
        lambda name: opened[position[name]],
        lambda _name: "",
        float("nan"),
        whole_frame=False,
        target=request.target,
    )


def _parts(images: Images) -> dict[str, Any]:
    return {each.name: getattr(images, each.name) for each in fields(images)}
