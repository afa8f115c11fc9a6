"""Evaluation of one prediction under the protocol of its data set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.size import Size
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.imaging.resample import labels_from_logits, resize_bicubic, resize_labels
from dpt_deploy.measure import metrics
from dpt_deploy.measure.metrics import Mask, SegmentationCounts

Scores = dict[str, float] | SegmentationCounts  # of one image


def evaluate_sample(protocol: Protocol, prediction: NDArray[Any], sample: Sample) -> Scores:
    """Score one prediction; the keys are those of ``protocols.METRICS``, shares are in 0..1.

    ``prediction`` is the output of the network, at any size: inverse depth (h, w) for the kinds ``zero-shot`` and
    ``ordinal``, metres (h, w) for ``metric``, logits (classes, h, w) or 1-based labels (h, w) for ``segmentation``.
    It is resized to the sample as the authors do it: inverse depth bilinearly, metres and logits bicubically.

    The result is empty for an image without a pixel to measure (19 frames of Sintel lie entirely beyond 72 m).
    """
    size = Size(*sample.valid.shape)
    if protocol.kind == "segmentation":
        return _segmentation(protocol, prediction, sample, size)
    if protocol.kind == "metric":
        metres = prediction.astype(np.float32)
        return _metric(protocol, metres if metres.shape == sample.valid.shape else resize_bicubic(metres, size), sample)
    inverse = resize_bilinear(prediction, size)
    return _ordinal(inverse, sample) if protocol.kind == "ordinal" else _zero_shot(protocol, inverse, sample)


def evaluate_plane(protocol: Protocol, sample: Sample) -> dict[str, float]:
    """Score the best plane in inverse depth under a depth protocol: the baseline for every network."""
    depth, measured = _truth(protocol, sample)
    if not measured.any():
        return {}
    return _depth_scores(metrics.plane_depth(depth, measured, protocol.cap)[measured], depth[measured])


def resize_bilinear(values: NDArray[Any], size: Size) -> NDArray[np.float32]:
    """Resize a map (h, w) to ``size``: PyTorch's ``interpolate(mode="bilinear", align_corners=False)``, in float32."""
    out = values.astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0 * inf, as in PyTorch
        for axis, target in enumerate((size.height, size.width)):
            out = _stretched(out, axis, target)
    return out


def _stretched(values: NDArray[np.float32], axis: int, target: int) -> NDArray[np.float32]:
    length = values.shape[axis]
    position = np.maximum((np.arange(target) + 0.5) * (length / target) - 0.5, 0.0)
    low = position.astype(np.intp)
    weight = (position - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
    blend: NDArray[np.float32] = np.take(values, low, axis) * (1 - weight)
    blend += np.take(values, np.minimum(low + 1, length - 1), axis) * weight
    return blend


def _truth(protocol: Protocol, sample: Sample) -> tuple[NDArray[np.float32], Mask]:
    """Depth of a sample, and the mask of the pixels that count."""
    if sample.depth is None:
        raise ValueError(f"the sample {sample.name!r} has no depth")
    depth = sample.depth
    return depth, sample.valid & (depth > protocol.min_depth) & (depth < protocol.max_depth)


def _zero_shot(protocol: Protocol, inverse: NDArray[np.float32], sample: Sample) -> dict[str, float]:
    depth, measured = _truth(protocol, sample)
    if not measured.any():
        return {}
    target = depth[measured]
    everywhere = np.ones(target.shape, bool)
    return _depth_scores(metrics.zero_shot_depth(inverse[measured], target, everywhere, protocol.cap), target)


def _metric(protocol: Protocol, metres: NDArray[np.float32], sample: Sample) -> dict[str, float]:
    depth, measured = _truth(protocol, sample)
    if not measured.any():
        return {}
    return _depth_scores(metres[measured].clip(protocol.min_depth, protocol.cap), depth[measured])


def _depth_scores(prediction: NDArray[Any], target: NDArray[Any]) -> dict[str, float]:
    scores: dict[str, float] = asdict(metrics.depth_metrics(prediction, target, np.ones(target.shape, bool)))
    return {**scores, "delta1_error": 1.0 - scores["delta1"]}


def _ordinal(inverse: NDArray[np.float32], sample: Sample) -> dict[str, float]:
    if not sample.pairs:
        raise ValueError(f"the sample {sample.name!r} has no pairs of points")
    far, near = (np.array([getattr(pair, end) for pair in sample.pairs], np.intp) for end in ("far", "near"))
    return {"whdr": metrics.whdr(inverse, far, near)}


def _segmentation(protocol: Protocol, prediction: NDArray[Any], sample: Sample, size: Size) -> SegmentationCounts:
    if sample.labels is None:
        raise ValueError(f"the sample {sample.name!r} has no labels")
    if prediction.ndim == 3:
        labels: NDArray[Any] = labels_from_logits(prediction.astype(np.float32), size)
    else:
        labels = resize_labels(prediction, size)
    return metrics.segmentation_counts(labels, sample.labels, protocol.classes)
