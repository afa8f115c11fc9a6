"""Validation of a training: errors of the saved weights on unseen rendered scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import progress
from dpt_deploy.core.recipe import Recipe
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import resample, rules
from dpt_deploy.jobs.train.config import Validation
from dpt_deploy.measure.metrics import (
    OUTDOOR_CAP,
    SegmentationCounts,
    depth_metrics,
    plane_depth,
    segmentation_counts,
    zero_shot_depth,
)

with extra("export", purpose="validating a training"):
    import torch

    from dpt_deploy.model.checkpoints.load import load_weights
    from dpt_deploy.scenes.render import Scene, render_scene

SIDE = 768  # pixels of a scene; more than the training size of any network

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # RGB (H, W, 3) to the output for one image


@dataclass(frozen=True)
class DepthScore:
    """Mean AbsRel over scenes, and that of the best plane of each ground truth: the baseline."""

    abs_rel: float
    plane_abs_rel: float

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "share_of_plane": self.abs_rel / self.plane_abs_rel}


@dataclass(frozen=True)
class SegmentationScore:
    """Pixel accuracy and mean IoU over all pixels of the scenes, in [0, 1]; ``commonest`` is the share of the most
    frequent class: the accuracy of always predicting it."""

    pixel_accuracy: float
    mean_iou: float
    commonest: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


Score = DepthScore | SegmentationScore


def validate(weights: Path, recipe: Recipe, validation: Validation) -> Score:
    """Score saved ``weights`` on the scenes of ``validation``.

    Raises:
        UsageError: no scene can be measured.
        BadFileError: the weights are not finite.
    """
    network = _network(weights, recipe)
    scenes = _scenes(validation)
    return _score_depth(network, scenes) if recipe.model.task == "depth" else _score_labels(network, scenes)


def _network(weights: Path, recipe: Recipe) -> Network:
    model, _ = load_weights(recipe.model, weights)

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(rules.preprocess(image, recipe.image, recipe.model.stride))
        with torch.inference_mode():
            output: NDArray[np.float32] = model(pixels)[0].numpy()
        return output

    return run


def _scenes(validation: Validation) -> Iterator[Scene]:
    with progress("validation", validation.scenes) as done:
        for index in range(validation.scenes):
            yield render_scene(validation.first + index, height=SIDE, width=SIDE)
            done.advance()


def _score_depth(network: Network, scenes: Iterator[Scene]) -> DepthScore:
    errors, planes = [], []
    for scene in scenes:
        valid = scene.depth < OUTDOOR_CAP
        if not valid.any():
            continue
        inverse = resample.resize_bicubic(network(scene.image), Size(SIDE, SIDE))
        errors.append(
            depth_metrics(zero_shot_depth(inverse, scene.depth, valid, OUTDOOR_CAP), scene.depth, valid).abs_rel
        )
        planes.append(depth_metrics(plane_depth(scene.depth, valid, OUTDOOR_CAP), scene.depth, valid).abs_rel)
    if not errors:
        raise UsageError(f"no scene has anything within {OUTDOOR_CAP:g} m", hint="set a larger validation.scenes")
    return DepthScore(float(np.mean(errors)), float(np.mean(planes)))


def _score_labels(network: Network, scenes: Iterator[Scene]) -> SegmentationScore:
    counts: SegmentationCounts | None = None
    for scene in scenes:
        logits = network(scene.image)
        found = resample.labels_from_logits(logits, Size(SIDE, SIDE))
        more = segmentation_counts(found, scene.labels.astype(np.int64) + 1, len(logits))  # 0 is unlabelled
        counts = more if counts is None else counts + more
    if counts is None:
        raise UsageError("there is no scene to measure on", hint="set a larger validation.scenes")
    commonest = float(counts.labelled.max() / counts.labelled.sum())
    return SegmentationScore(counts.pixel_accuracy, counts.mean_iou, commonest)
