"""Metrics: how close two outputs are to each other, or an output to the ground truth.

Two outputs: error is measured against the *range* of the reference (largest minus smallest value), because depth is
known only up to scale and shift. AbsRel after affine alignment is the paper's own measure (§4.1, supplement; MiDaS
Eq. 2-4). An output and the truth: the evaluation protocols of the paper's Tables 1-5, one image at a time, in float64.

Maps of one image are (H, W) in metres or inverse metres; a mask ``valid`` is bool of the same shape. Both may be flat
unless a function states otherwise. An output that is not finite has an infinite error wherever it is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.task import Task

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Crop = Literal["none", "garg", "eigen"]

_EIGEN_FRAME = (480, 640)  # the only size for which NYU's crop is defined

OUTDOOR_CAP = 80.0  # metres; farther points count as sky, as in the paper's outdoor protocols


def span(values: np.ndarray) -> float:
    """Largest minus smallest value."""
    return float(values.max()) - float(values.min())


def range_error(candidate: np.ndarray, reference: np.ndarray, least: float = 0.0) -> tuple[float, float]:
    """Max and mean absolute difference over the reference's range; infinite for non-finite candidates.

    ``least`` is the range of a reference that is flatter (:attr:`Task.full_scale`).
    """
    width = max(span(reference), least)
    difference = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    if not np.isfinite(difference).all():
        return float("inf"), float("inf")
    if width == 0.0:
        return (0.0, 0.0) if not difference.any() else (float("inf"), float("inf"))
    return float(difference.max()) / width, float(difference.mean()) / width


def sqnr(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Variance of references over mean squared error of candidates, in dB, over (candidate, reference) pairs.

    None if that is not a number: there is no error, or it is not finite.
    """
    signal = noise = 0.0
    for candidate, reference in pairs:
        signal += float(reference.var())
        noise += float(np.mean((candidate.astype(np.float64) - reference) ** 2))
    return float(10.0 * np.log10(signal / noise)) if 0.0 < noise < np.inf and signal > 0.0 else None


def align_affine(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``scale * prediction + shift`` closest to ``target`` in least squares (MiDaS Eq. 2-4)."""
    p, t = prediction.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    centred = p - p.mean()
    variance = float(centred @ centred)
    scale = float(centred @ (t - t.mean())) / variance if variance > 0 else 0.0
    return np.asarray(scale * (prediction.astype(np.float64) - p.mean()) + t.mean())


def abs_rel(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean of the absolute difference over the target, over pixels with positive target; NaN when there is none."""
    valid = target > 0
    if not valid.any():
        return float("nan")
    return float(np.mean(np.abs(prediction[valid] - target[valid]) / target[valid]))


def aligned_abs_rel(candidate: np.ndarray, reference: np.ndarray) -> float:
    """AbsRel of ``candidate`` after affine alignment to ``reference``."""
    return abs_rel(align_affine(candidate, reference), reference.astype(np.float64))


def pixel_agreement(candidate: np.ndarray, reference: np.ndarray) -> float:
    """Share of pixels with the same class; logits (B, classes, H, W) are reduced by argmax."""
    left, right = (values.argmax(axis=1) if values.ndim == 4 else values for values in (candidate, reference))
    return float(np.mean(left == right))


def drift(candidate: np.ndarray, reference: np.ndarray, task: Task) -> float:
    """Distance of two outputs in the terms of their task (:attr:`Task.drift`); 0 if they agree."""
    if task.drift == "abs_rel":
        return aligned_abs_rel(candidate, reference)
    if task.drift == "labels":
        return 1.0 - pixel_agreement(candidate, reference)
    return range_error(candidate, reference, task.full_scale)[1]


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of one depth map: lengths in metres, ``delta*`` the shares (0..1) of pixels within 1.25, 1.25², 1.25³.

    ``silog`` is the standard deviation of the log error, the square root of Eigen's scale-invariant error.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    silog: float
    delta1: float
    delta2: float
    delta3: float


_INF = float("inf")
_INFINITELY_WRONG = DepthMetrics(_INF, _INF, _INF, _INF, _INF, _INF, 0.0, 0.0, 0.0)


def fit_scale_shift(prediction: np.ndarray, target: np.ndarray, valid: Mask) -> tuple[float, float]:
    """``(scale, shift)`` that bring ``prediction`` closest to ``target`` over ``valid`` (MiDaS Eq. 2-4).

    ``(0, 0)`` where the prediction is flat over ``valid`` or nothing is valid: the normal equations are singular then,
    and the authors' script answers their non-positive determinant with zeros. NaN for a prediction that is not finite.
    """
    p, t = prediction[valid].astype(np.float64), target[valid].astype(np.float64)
    if not np.isfinite(p).all():
        return float("nan"), float("nan")
    if not p.size or p.min() == p.max():  # exactly when the determinant is zero, without its rounding
        return 0.0, 0.0
    centred = p - p.mean()
    scale = float(centred @ (t - t.mean())) / float(centred @ centred)
    return scale, float(t.mean()) - scale * float(p.mean())


def zero_shot_depth(prediction: np.ndarray, depth: np.ndarray, valid: Mask, cap: float) -> Array:
    """Metres from a prediction of inverse depth known up to scale and shift, the protocol of the paper's Table 1.

    The prediction is aligned with ``1 / depth`` over ``valid`` (:func:`fit_scale_shift`), floored at ``1 / cap``, and
    inverted. ``depth`` is read where ``valid`` only, and must be positive there. NaN everywhere for a prediction that
    is not finite over ``valid``.
    """
    scale, shift = fit_scale_shift(prediction, _inverted(depth, valid), valid)
    with np.errstate(invalid="ignore"):  # 0 * inf where nothing is measured
        return _floored_depth(scale * prediction.astype(np.float64) + shift, cap)


def plane_depth(depth: np.ndarray, valid: Mask, cap: float) -> Array:
    """Metres of the plane ``a x + b y + c`` in inverse depth that fits ``depth`` (H, W) best: the baseline.

    Least squares over ``valid``, of smallest norm if several planes fit equally well; floored at ``1 / cap``. The plane
    is fitted to the ground truth and uses nothing of the image.
    """
    height, width = depth.shape
    y, x, weight = np.linspace(-1, 1, height), np.linspace(-1, 1, width), valid.astype(np.float64)
    inverse = _inverted(depth, valid)
    xx, xy, yy = weight.sum(0) @ x**2, y @ weight @ x, weight.sum(1) @ y**2
    x1, y1, n = weight.sum(0) @ x, weight.sum(1) @ y, weight.sum()
    right = [inverse.sum(0) @ x, inverse.sum(1) @ y, inverse.sum()]
    (a, b, c), *_ = np.linalg.lstsq(np.array([[xx, xy, x1], [xy, yy, y1], [x1, y1, n]]), np.array(right), rcond=1e-12)
    return _floored_depth(a * x + b * y[:, None] + c, cap)


def _inverted(depth: np.ndarray, valid: Mask) -> Array:
    """``1 / depth`` where ``valid``, 0 elsewhere."""
    if not (depth[valid] > 0).all():
        raise ValueError("a valid depth is not positive")
    inverse: Array = np.zeros(depth.shape)
    inverse[valid] = 1.0 / depth[valid].astype(np.float64)
    return inverse


def _floored_depth(inverse: Array, cap: float) -> Array:
    return np.asarray(1.0 / np.maximum(inverse, 1.0 / cap))


def depth_metrics(prediction: np.ndarray, depth: np.ndarray, valid: Mask) -> DepthMetrics:
    """Errors of ``prediction`` against ``depth``, both in metres, over ``valid``.

    The formulas are those of Eigen et al. (2014) as the evaluation code of BTS, which the paper's Tables 2-3 were made
    with, computes them. The error is infinite if the prediction is not a positive number everywhere.

    Raises:
        ValueError: nothing is valid, or a valid ``depth`` is not positive.
    """
    p, t = prediction[valid].astype(np.float64), depth[valid].astype(np.float64)
    if not t.size or not (t > 0).all():
        raise ValueError("no pixel is valid, or a valid depth is not positive")
    if not (np.isfinite(p) & (p > 0)).all():
        return _INFINITELY_WRONG
    error, log_error, ratio = p - t, np.log(p) - np.log(t), np.maximum(p / t, t / p)
    values = (np.abs(error) / t, error**2 / t, error**2, log_error**2, np.abs(log_error) / np.log(10.0))
    abs_rel, sq_rel, squared, log_squared, log10 = (float(value.mean()) for value in values)
    delta1, delta2, delta3 = (float(np.mean(ratio < 1.25**power)) for power in (1, 2, 3))
    silog = float(log_error.std())
    return DepthMetrics(abs_rel, sq_rel, squared**0.5, log_squared**0.5, log10, silog, delta1, delta2, delta3)


def evaluation_crop(crop: Crop, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that are measured: ``garg`` (KITTI, a share of the frame), ``eigen`` (NYU, 480x640), or all.

    Raises:
        ValueError: the Eigen crop of a frame of another size.
    """
    if crop == "garg":
        rows, cols = (0.40810811, 0.99189189), (0.03594771, 0.96405229)
        return slice(*(int(part * height) for part in rows)), slice(*(int(part * width) for part in cols))
    if crop == "eigen":
        if (height, width) != _EIGEN_FRAME:
            raise ValueError(f"the Eigen crop is defined for 480x640, not {height}x{width}")
        return slice(45, 471), slice(41, 601)
    return slice(0, height), slice(0, width)


def whdr(prediction: np.ndarray, far: NDArray[np.intp], near: NDArray[np.intp]) -> float:
    """Share of point pairs whose order ``prediction`` (H, W; inverse depth, larger is nearer) gets wrong.

    ``far`` and ``near`` are (N, 2): row and column of the points that annotators called farther and nearer. As in Chen
    et al. (2016, "Depth in the Wild") there is no threshold and every pair has the same weight. A tie counts as a
    disagreement, and so does a value that is not a number.
    """
    agree = prediction[far[:, 0], far[:, 1]] < prediction[near[:, 0], near[:, 1]]
    return float(1.0 - np.mean(agree))


@dataclass(frozen=True)
class SegmentationCounts:
    """Pixels of each class, (classes,) each, summed over any number of images.

    ``intersection`` counts correct predictions; ``predicted`` and ``labelled`` count the labelled pixels by either map.
    """

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    labelled: NDArray[np.int64]

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.intersection + other.intersection, self.predicted + other.predicted, self.labelled + other.labelled
        )

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels predicted correctly; NaN if no pixel is labelled."""
        total = int(self.labelled.sum())
        return int(self.intersection.sum()) / total if total else float("nan")

    @property
    def mean_iou(self) -> float:
        """Intersection over union, averaged over the classes that occur in either map; NaN if none does."""
        union = self.predicted + self.labelled - self.intersection
        there = union > 0
        return float(np.mean(self.intersection[there] / union[there])) if there.any() else float("nan")


def segmentation_counts(prediction: np.ndarray, labels: np.ndarray, classes: int) -> SegmentationCounts:
    """Count the pixels of one image: maps (H, W) of labels 1..``classes``; pixels with label 0 are ignored.

    Raises:
        ValueError: shapes differ, or a label is outside 0..``classes``.
    """
    if prediction.shape != labels.shape:
        raise ValueError(f"the prediction is {prediction.shape}, the labels are {labels.shape}")
    if any(values.size and (values.min() < 0 or values.max() > classes) for values in (prediction, labels)):
        raise ValueError(f"a label is outside 0..{classes}")
    known = labels > 0
    p, t = prediction[known], labels[known]
    return SegmentationCounts(*(_histogram(values, classes) for values in (t[p == t], p, t)))


def _histogram(labels: np.ndarray, classes: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.bincount(labels.ravel(), minlength=classes + 1)[1:].astype(np.int64)
    return counts
