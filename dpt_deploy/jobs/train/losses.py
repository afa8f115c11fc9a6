"""Losses of DPT: depth up to scale and shift, and segmentation with an auxiliary head.

Equation numbers are those of Ranftl et al., "Towards Robust Monocular Depth Estimation" (MiDaS, TPAMI 2020), whose
losses the DPT paper uses (§4.1); the segmentation loss is that of the DPT paper's §4.2. Least-squares alignment
(Eq. 2-4) is for evaluation only: see :mod:`dpt_deploy.measure.metrics`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TRIM = 0.2  # share of the largest residuals that is ignored (Eq. 7: U_m = 0.8 M)
SCALES = 4  # levels of the gradient loss (Eq. 11)
ALPHA = 0.5  # weight of the gradient loss (Eq. 12)
AUXILIARY = 0.2  # weight of the auxiliary head (DPT §4.2)
UNLABELLED = -1  # a pixel without a class
_FLAT = 1e-6  # smaller deviations are not scaled up


def robust_normalise(values: Tensor, valid: Tensor) -> Tensor:
    """``(d - t) / s`` with ``t`` the median and ``s`` the mean absolute deviation from it (Eq. 5-6), (B, H, W).

    The median of an even number of valid pixels is the lower of the middle two. An image without valid pixels is only
    divided by 1e-6.
    """
    flat = torch.where(valid, values, torch.nan).flatten(1)
    shift = flat.nanmedian(dim=1).values.nan_to_num()[:, None, None]
    mask = valid.to(values.dtype)
    scale = _total(mask * (values - shift).abs()) / _total(mask).clamp_min(1)
    return (values - shift) / scale.clamp_min(_FLAT)[:, None, None]


def trimmed_loss(residual: Tensor, valid: Tensor, *, trim: float = TRIM) -> Tensor:
    """Half the mean absolute residual of each image, without its largest share ``trim`` (Eq. 7), (B,).

    The divisor stays the number of *all* valid pixels, as in the paper.
    """
    count = valid.flatten(1).sum(dim=1)
    size = torch.where(valid, residual.abs(), torch.inf).flatten(1)
    order = size.sort(dim=1).values
    kept = torch.arange(order.shape[1], device=order.device)[None, :] < ((1 - trim) * count)[:, None]
    return torch.where(kept, order, 0.0).sum(dim=1) / (2 * count).clamp_min(1)


def gradient_loss(residual: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute gradient of the residual, summed over four levels of halved resolution (Eq. 11), (B,).

    A level is every second pixel of the one before and is averaged over its own valid pixels (as in the authors'
    code; with the single ``1/M`` of Eq. 11 the coarser levels would hardly count). Differences across the border of
    the valid region do not count.
    """
    total = torch.zeros(residual.shape[0], dtype=residual.dtype, device=residual.device)
    for level in range(SCALES):
        step = 2**level
        r, m = residual[:, ::step, ::step], valid[:, ::step, ::step]
        across = (r[:, :, 1:] - r[:, :, :-1]).abs() * (m[:, :, 1:] & m[:, :, :-1])
        down = (r[:, 1:] - r[:, :-1]).abs() * (m[:, 1:] & m[:, :-1])
        total = total + (_total(across) + _total(down)) / m.flatten(1).sum(dim=1).clamp_min(1)
    return total


def depth_loss(
    prediction: Tensor, target: Tensor, valid: Tensor, *, alpha: float = ALPHA, trim: float = TRIM
) -> Tensor:
    """Scale- and shift-invariant trimmed loss plus ``alpha`` times gradient matching, mean over images (Eq. 12).

    Args:
        prediction: inverse depth up to scale and shift, (B, H, W).
        target: inverse depth, (B, H, W).
        valid: mask of the known ``target``, (B, H, W) bool.
        alpha: weight of the gradient loss.
        trim: share of the largest residuals that is ignored.
    """
    target = torch.where(valid, target, 0.0)
    residual = robust_normalise(_widened(prediction), valid) - robust_normalise(target, valid)
    residual = torch.where(valid, residual, 0.0)
    return (trimmed_loss(residual, valid, trim=trim) + alpha * gradient_loss(residual, valid)).mean()


def segmentation_loss(logits: Tensor, auxiliary: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the output, plus a fifth of that of the auxiliary head (DPT §4.2).

    ``logits`` and ``auxiliary`` are (B, classes, H, W), the latter at any resolution; ``labels`` are (B, H, W) int64,
    -1 for pixels that are ignored.
    """
    resized = F.interpolate(_widened(auxiliary), size=labels.shape[1:], mode="bilinear", align_corners=True)
    return _cross_entropy(_widened(logits), labels) + AUXILIARY * _cross_entropy(resized, labels)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled pixels; 0 without any."""
    total = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp_min(1)


def _widened(values: Tensor) -> Tensor:
    """Convert 16-bit outputs to float32, because sums over an image need the precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _total(values: Tensor) -> Tensor:
    """Sum over the pixels of each image."""
    return values.flatten(1).sum(dim=1)
