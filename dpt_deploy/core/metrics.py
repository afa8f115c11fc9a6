"""Every number that says how close two outputs are.

Error is measured against the *range* of the reference (largest minus smallest value), because depth is known only up to
scale and shift; AbsRel after affine alignment is the paper's own measure (§4.1, supplement; MiDaS Eq. 2-4).
"""

from __future__ import annotations

import numpy as np


def span(values: np.ndarray) -> float:
    """Largest minus smallest value."""
    return float(values.max()) - float(values.min())


def range_error(candidate: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Max and mean absolute difference over the reference's range; infinite for non-finite candidates."""
    width = span(reference)
    difference = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    if not np.isfinite(difference).all():
        return float("inf"), float("inf")
    if width == 0.0:
        return (0.0, 0.0) if not difference.any() else (float("inf"), float("inf"))
    return float(difference.max()) / width, float(difference.mean()) / width


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
