"""What a training was worth: the saved weights on rendered scenes that no training has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.progress import progress
from dpt_deploy.core.recipe import Recipe
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import resample, rules
from dpt_deploy.jobs.train.config import Validation
from dpt_deploy.measure.metrics import (
    SegmentationCounts,
    depth_metrics,
    plane_depth,
    segmentation_counts,
    zero_shot_depth,
)

SIDE = 768  # pixels of a scene: more than any network is trained at
CAP = 80.0  # metres; what is farther counts as sky, as in the paper's outdoor protocols

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # RGB (H, W, 3) to the output for one image


@dataclass(frozen=True)
class DepthScore:
    """Mean AbsRel over scenes, and that of the plane which fits each ground truth best: what a network must beat."""

    abs_rel: float
    plane_abs_rel: float

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "share_of_plane": self.abs_rel / self.plane_abs_rel}


@dataclass(frozen=True)
class SegmentationScore:
    """Pixel accuracy and mean IoU over all pixels of the scenes, in [0, 1]; ``commonest`` is the share of the class
    that covers most of them: the accuracy of who always says it."""

    pixel_accuracy: float
    mean_iou: float
    commonest: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


Score = DepthScore | SegmentationScore


def judge(weights: Path, recipe: Recipe, validation: Validation) -> Score:
    """The score of saved ``weights`` on the scenes of ``validation``.

    Raises:
        UsageError: none of the scenes can be judged.
        BadFileError: the weights are not finite.
    """
    network = _network(weights, recipe)
    scenes = _scenes(validation)
    return _judge_depth(network, scenes) if recipe.model.task == "depth" else _judge_labels(network, scenes)


def _network(weights: Path, recipe: Recipe) -> Network:
    import torch

    from dpt_deploy.model.checkpoints.load import load_weights

    model, _ = load_weights(recipe.model, weights)

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(rules.preprocess(image, recipe.image, recipe.model.stride))
        with torch.inference_mode():
            output: NDArray[np.float32] = model(pixels)[0].numpy()
        return output

    return run


def _scenes(validation: Validation) -> Iterator[Any]:
    from dpt_deploy.scenes.render import render_scene

    with progress("judging", validation.scenes) as judged:
        for index in range(validation.scenes):
            yield render_scene(validation.first + index, height=SIDE, width=SIDE)
            judged.advance()


def _judge_depth(network: Network, scenes: Iterator[Any]) -> DepthScore:
    ours, planes = [], []
    for scene in scenes:
        valid = scene.depth < CAP
        if not valid.any():
            continue
        inverse = resample.resize_bicubic(network(scene.image), Size(SIDE, SIDE))
        ours.append(depth_metrics(zero_shot_depth(inverse, scene.depth, valid, CAP), scene.depth, valid).abs_rel)
        planes.append(depth_metrics(plane_depth(scene.depth, valid, CAP), scene.depth, valid).abs_rel)
    if not ours:
        raise UsageError(f"no scene has anything within {CAP:g} m", hint="set a larger validation.scenes")
    return DepthScore(float(np.mean(ours)), float(np.mean(planes)))


def _judge_labels(network: Network, scenes: Iterator[Any]) -> SegmentationScore:
    counts: SegmentationCounts | None = None
    for scene in scenes:
        logits = network(scene.image)
        found = resample.labels_from_logits(logits, Size(SIDE, SIDE))
        more = segmentation_counts(found, scene.labels.astype(np.int64) + 1, len(logits))  # 0 would be unlabelled
        counts = more if counts is None else counts + more
    if counts is None:
        raise UsageError("there is no scene to judge by", hint="set a larger validation.scenes")
    commonest = float(counts.labelled.max() / counts.labelled.sum())
    return SegmentationScore(counts.pixel_accuracy, counts.mean_iou, commonest)
