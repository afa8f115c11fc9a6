"""EfficientNet-Lite, the encoder of the small MiDaS v2.1: inverted residual blocks with ReLU6 (Tan and Le 2019)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.core.encoders import EfficientNetSpec, Tap
from dpt_deploy.core.encoders.efficientnet import FORMS, LEVELS, StageForm
from dpt_deploy.model.encoders.base import Encoder


class SameConv2d(nn.Conv2d):
    """Convolution of stride 2 with TensorFlow's SAME padding: ``ceil(n / 2)`` outputs, an odd pixel of padding behind.

    The published weights were trained in TensorFlow. Padding both sides alike moves every map by a pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / 2), ceil(w / 2))."""
        padding: list[int] = []
        for axis in (1, 0):  # F.pad wants the last axis first
            length, kernel, stride = x.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            padding += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _depthwise(channels: int, form: StageForm, stride: int) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, channels, form.kernel, padding=form.kernel // 2, groups=channels, bias=False)
    return SameConv2d(channels, channels, form.kernel, stride, groups=channels, bias=False)


class SeparableBlock(nn.Module):
    """Depthwise and 1x1 convolution: the blocks of the first stage, which do not widen."""

    def __init__(self, channels: int, out: int, form: StageForm, stride: int, eps: float) -> None:
        super().__init__()
        self.conv_dw = _depthwise(channels, form, stride)
        self.bn1 = nn.BatchNorm2d(channels, eps=eps)
        self.conv_pw = nn.Conv2d(channels, out, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, eps=eps)
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        out: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        return out + x if self.has_shortcut else out


class InvertedResidual(nn.Module):
    """Widen with a 1x1 convolution, convolve depthwise, and narrow without an activation."""

    def __init__(self, channels: int, out: int, form: StageForm, stride: int, eps: float) -> None:
        super().__init__()
        wide = channels * form.expansion
        self.conv_pw = nn.Conv2d(channels, wide, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, eps=eps)
        self.conv_dw = _depthwise(wide, form, stride)
        self.bn2 = nn.BatchNorm2d(wide, eps=eps)
        self.conv_pwl = nn.Conv2d(wide, out, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out, eps=eps)
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        wide = F.relu6(self.bn1(self.conv_pw(x)))
        out: Tensor = self.bn3(self.conv_pwl(F.relu6(self.bn2(self.conv_dw(wide)))))
        return out + x if self.has_shortcut else out


class EfficientNetEncoder(Encoder):
    """EfficientNet-Lite: (B, 3, H, W) to the maps at 1/4, 1/8, 1/16 and 1/32 resolution."""

    def __init__(self, spec: EfficientNetSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.conv_stem = SameConv2d(3, spec.stem_channels, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.stem_channels, eps=spec.norm_eps)
        self.stages = nn.ModuleList()
        channels = spec.stem_channels
        for form, blocks, out in zip(FORMS, spec.stage_blocks, spec.stage_channels, strict=True):
            kind = SeparableBlock if form.expansion == 1 else InvertedResidual
            stage = nn.Sequential()
            for index in range(blocks):
                stride = 1 if index else form.stride
                stage.append(kind(out if index else channels, out, form, stride, spec.norm_eps))
            self.stages.append(stage)
            channels = out

    @property
    def comparable(self) -> tuple[str, ...]:
        return tuple(f"stages.{index}" for index in range(len(self.stages)))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu6(self.bn1(self.conv_stem(image)))
        features: dict[Tap, Tensor] = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in LEVELS:
                features[f"stage{LEVELS.index(index)}"] = x
        return [features[tap] for tap in self.taps]
