"""Output heads: depth and segmentation (paper §4.1, §4.2 and supplement A), the metric tail, and joint heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import SCORES_TASK, SKY_TASK, Activation, MetricTail, ModelSpec
from dpt_deploy.model.decoders import DecoderForm, form_of, head_channels, tasks_with_decoder
from dpt_deploy.model.fusion import upsample


class Head(nn.Module):
    """A head: ``forward(x, size)`` maps (B, C, h, w) to an output of ``size``, or of (2h, 2w) if it is None.

    ``last`` names its last convolution. ``fp32`` maps modules whose output needs FP32 to the reason.
    """

    last: ClassVar[str]
    fp32: ClassVar[Mapping[str, str]] = {}


class DepthHead(Head):
    """Map (B, C, h, w) to non-negative depth (B, *size), or (B, 2h, 2w), of the quantity that the specification states.

    The last convolution is followed by a ReLU, by an exponential, or by a sigmoid times ``max_depth``, in float32. With
    ``sky`` the result is the depth and the map of the sky, of the same size.
    """

    last: ClassVar[str] = "conv3"
    fp32: ClassVar[Mapping[str, str]] = {"conv3": "raw depth runs to thousands, where 16 bits have steps of 2 and more"}

    def __init__(
        self,
        channels: int,
        form: DecoderForm,
        activation: Activation = "relu",
        max_depth: float = 0.0,
        *,
        sky: bool = False,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.max_depth = max_depth
        middle, last = form.head[0] or channels // 2, form.head[1]
        self.conv1 = nn.Conv2d(channels, middle, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(middle, last, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(last, 1, kernel_size=1)
        self.align_corners = form.head_corners  # MiDaS v2.1 calls interpolate with the default
        self.sky = SkyHead(middle, last) if sky else None

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor | tuple[Tensor, Tensor]:
        x = upsample(self.conv1(x), size, align_corners=self.align_corners)
        depth = self._activated(self.conv3(F.relu(self.conv2(x)))).squeeze(1)
        return depth if self.sky is None else (depth, self.sky(x))

    def _activated(self, x: Tensor) -> Tensor:
        if self.activation == "relu":
            return F.relu(x)
        return x.float().exp() if self.activation == "exp" else self.max_depth * x.float().sigmoid()


class SkyHead(nn.Module):
    """The second end of a depth head (Depth Anything 3): its resized features (B, C, H, W) to the sky (B, H, W).

    About 0 is the ground and 1 the sky.
    """

    last: ClassVar[str] = "conv2"

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, middle, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(middle, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x)))).squeeze(1)


class ProjectedDepthHead(DepthHead):
    """The head of DINOv2's depth networks: a convolution in front, a map twice as large, and that in the image's size.

    The authors resize the depth to the image last, without aligned corners. Hugging Face's class returns it as it is,
    of 32 rows for each two rows of patches, one of which may be missing.
    """

    fp32: ClassVar[Mapping[str, str]] = {**DepthHead.fp32, "restore": "metres in the steps of 16 bits are coarse"}

    def __init__(self, channels: int, form: DecoderForm) -> None:
        super().__init__(channels, form)
        self.projection = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.restore = Restore()

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        depth: Tensor = self.restore(super().forward(F.relu(self.projection(x))), size)
        return depth


class Restore(nn.Module):
    """Resize a map (B, h, w) bilinearly to (B, *size), without aligned corners; unchanged if there is no size."""

    def forward(self, depth: Tensor, size: tuple[int, int] | None) -> Tensor:
        if size is None:
            return depth
        return F.interpolate(depth[:, None], size=size, mode="bilinear", align_corners=False).squeeze(1)


class SegmentationHead(Head):
    """Map (B, C, h, w) to class logits (B, classes, *size), or x2. Dropout (0.1) acts in training only."""

    last: ClassVar[str] = "classifier"

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x = self.dropout(F.relu(self.bn(self.conv(x))))
        return upsample(self.classifier(x), size, align_corners=True)


class PlainSegmentationHead(Head):
    """Map (B, C, h, w) to class logits (B, classes, *size), or x2: the depth head with a channel for each class."""

    last: ClassVar[str] = "classifier"

    def __init__(self, channels: int, form: DecoderForm, num_classes: int) -> None:
        super().__init__()
        middle, last = form.head[0] or channels // 2, form.head[1]
        self.conv1 = nn.Conv2d(channels, middle, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(middle, last, kernel_size=3, padding=1)
        self.classifier = nn.Conv2d(last, num_classes, kernel_size=1)
        self.align_corners = form.head_corners

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x = upsample(self.conv1(x), size, align_corners=self.align_corners)
        logits: Tensor = self.classifier(F.relu(self.conv2(x)))
        return logits


def segmentation_head(spec: ModelSpec) -> Head:
    """The head of classes on the decoder of ``spec``."""
    form, channels = form_of(spec), head_channels(spec)
    if form.shared:
        return PlainSegmentationHead(channels, form, spec.num_classes)
    return SegmentationHead(channels, spec.num_classes)


# Task to the head that computes its output.
JOINT_HEADS: dict[str, Callable[[ModelSpec], Head]] = {SCORES_TASK: segmentation_head}


def joint_heads(spec: ModelSpec) -> nn.ModuleDict:
    """The heads of ``spec.joint`` on the decoder of the first output, by task.

    A task with a decoder of its own has none, and the sky is an end of the depth head.

    Raises:
        BadFileError: no head computes one of the tasks.
    """
    tasks = [task for task in spec.joint if task not in (*tasks_with_decoder(spec), SKY_TASK)]
    for task in tasks:
        if task not in JOINT_HEADS:
            raise BadFileError(
                f"{spec.name!r} has the joint task {task!r}, which no head computes",
                hint=f"joint heads: {', '.join(JOINT_HEADS) or 'none'}",
            )
    return nn.ModuleDict({task: JOINT_HEADS[task](spec) for task in tasks})


class MetricDepth(nn.Module):
    """Network output to metres: ``1 / max(scale * y + shift, 1e-8)``, always in float32.

    The published scales are subnormal in half precision, hence the cast.
    """

    def __init__(self, tail: MetricTail) -> None:
        super().__init__()
        self.scale = tail.scale
        self.shift = tail.shift

    def forward(self, inverse: Tensor) -> Tensor:
        """(B, H, W) to (B, H, W)."""
        return 1.0 / (self.scale * inverse.float() + self.shift).clamp(min=1e-8)
