"""Evaluation protocols of the paper's data sets (Tables 1-5; the MiDaS paper §6 and its authors' script).

Units: ``abs_rel``, lengths (``rmse`` in metres) and ``delta1`` … ``delta3`` are printed as they are
(Tables 1-3); what the paper prints in percent (``delta1_error`` of Table 1, ``whdr``, ``pixel_accuracy``, ``mean_iou``,
and ``silog`` as the evaluation code prints it) is multiplied by 100 when samples are summed up, and only then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ResizeRule
from dpt_deploy.measure.metrics import Crop

Kind = Literal["zero-shot", "metric", "segmentation", "ordinal"]


@dataclass(frozen=True)
class Metric:
    """Title and unit of a metric; with ``percent`` the paper prints it times 100."""

    title: str
    percent: bool


METRICS = {
    "abs_rel": Metric("AbsRel", percent=False),
    "sq_rel": Metric("SqRel [m]", percent=False),
    "rmse": Metric("RMSE [m]", percent=False),
    "rmse_log": Metric("RMSE log", percent=False),
    "log10": Metric("log10", percent=False),
    "silog": Metric("SILog x100", percent=True),
    "delta1": Metric("δ < 1.25", percent=False),
    "delta2": Metric("δ < 1.25²", percent=False),
    "delta3": Metric("δ < 1.25³", percent=False),
    "delta1_error": Metric("δ > 1.25 [%]", percent=True),
    "whdr": Metric("WHDR [%]", percent=True),
    "pixel_accuracy": Metric("pixel accuracy [%]", percent=True),
    "mean_iou": Metric("mIoU [%]", percent=True),
}


@dataclass(frozen=True)
class Protocol:
    """Evaluation protocol of one data set.

    ``kind`` is the kind of prediction: inverse depth up to scale and shift (``zero-shot``, and for the order of points
    ``ordinal``), metres (``metric``), or class scores (``segmentation``). ``metric`` is the number by which
    the paper compares. ``images`` is the size of the paper's set, to tell a subset from the whole. The image enters the
    network at about ``size`` by ``resize`` (as in :class:`~dpt_deploy.core.spec.ImageSpec`, aspect kept). Depth is
    measured where the truth lies strictly between ``min_depth`` and ``max_depth`` and inside ``crop``; predictions end
    at ``cap``. Lengths are in metres.
    """

    kind: Kind
    metric: str
    images: int
    size: Size
    resize: ResizeRule
    cap: float = float("inf")
    min_depth: float = 0.0
    max_depth: float = float("inf")
    crop: Crop = "none"
    classes: int = 0


_SQUARE = Size(384, 384)  # Table 1 compares every MiDaS and DPT model at this size

PROTOCOLS = {
    "diw": Protocol("ordinal", "whdr", 74_441, _SQUARE, "upper_bound"),
    "eth3d": Protocol("zero-shot", "abs_rel", 454, _SQUARE, "upper_bound", cap=72.0),
    # The authors mask Sintel's ground truth at the cap, too, and NYU's in their script; elsewhere all of it counts.
    "sintel": Protocol("zero-shot", "abs_rel", 1064, _SQUARE, "upper_bound", cap=72.0, max_depth=72.0),
    "sintel-clean": Protocol("zero-shot", "abs_rel", 1064, _SQUARE, "upper_bound", cap=72.0, max_depth=72.0),
    # Larger axis 384 everywhere but here, where the smaller one is: a frame three times as wide as high.
    "kitti": Protocol("zero-shot", "delta1_error", 161, _SQUARE, "lower_bound", cap=80.0),
    "nyu": Protocol("zero-shot", "delta1_error", 654, _SQUARE, "upper_bound", cap=10.0, max_depth=10.0),
    "tum": Protocol("zero-shot", "delta1_error", 1815, _SQUARE, "upper_bound", cap=10.0),
    "kitti-metric": Protocol("metric", "abs_rel", 652, Size(352, 1216), "minimal", 80.0, 1e-3, 80.0, "garg"),
    "nyu-metric": Protocol("metric", "abs_rel", 654, Size(480, 640), "minimal", 10.0, 1e-3, 10.0, "eigen"),
    "ade20k": Protocol("segmentation", "mean_iou", 2000, Size(480, 480), "minimal", classes=150),
    "pascal-context": Protocol("segmentation", "mean_iou", 5105, Size(480, 480), "minimal", classes=59),
}
