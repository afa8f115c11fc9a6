"""DPT-Hybrid's encoder: a Vision Transformer on a ResNet50 with group norm and weight standardisation (paper §3.1).

The supplement calls it pre-activation; the published weights were trained with ``preact=False``, which is followed.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import StdConv2dSame
from timm.layers.padding import pad_same
from timm.models.resnetv2 import ResNetV2
from torch import Tensor, nn

from dpt_deploy.core.encoders import HybridSpec, Tap
from dpt_deploy.model.encoders.vit import TransformerEncoder


class SumStdConv2dSame(StdConv2dSame):
    """Weight standardisation as timm 0.4.5 wrote it, ``(W - μ) / (σ + 1e-5)``, which the original repository pins.

    With the same weights it differs from today's ``sqrt(σ² + 1e-8)`` by about 1e-4 of the output's range.
    """

    def standardised(self) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return (self.weight - mean) / (deviation + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        if self.same_pad:
            x = pad_same(x, self.kernel_size, self.stride, self.dilation)
        return F.conv2d(x, self.standardised(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvStages(nn.Module):
    """Stem and stages of the ResNet: (B, 3, H, W) to the output of every stage, at 1/4, 1/8, 1/16."""

    def __init__(self, spec: HybridSpec) -> None:
        super().__init__()
        conv = StdConv2dSame if spec.weight_standardisation == "sqrt" else SumStdConv2dSame
        net = ResNetV2(
            layers=list(spec.stage_blocks),
            channels=spec.stage_channels,
            stem_chs=spec.stem_channels,
            num_classes=0,
            global_pool="",
            preact=False,
            stem_type="same",
            conv_layer=partial(conv, eps=1e-8),
        )
        self.stem = net.stem
        self.stages = net.stages

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class HybridEmbed(nn.Module):
    """Tokens from the last convolutional stage (1/16 resolution), and every stage for tapping."""

    def __init__(self, spec: HybridSpec) -> None:
        super().__init__()
        self.backbone = ConvStages(spec)
        self.proj = nn.Conv2d(spec.stage_channels[-1], spec.width, kernel_size=1)

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, H, W) to tokens (B, H/16 * W/16, D) and the feature maps by tap name."""
        outputs = self.backbone(image)
        tokens = self.proj(outputs[-1]).flatten(2).transpose(1, 2)
        return tokens, {f"stage{index}": output for index, output in enumerate(outputs)}


class HybridEncoder(TransformerEncoder):
    """A Vision Transformer on the last stage of the ResNet, whose own maps (B, C, H/s, W/s) may be tapped as well."""

    def __init__(self, spec: HybridSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__(spec, taps, HybridEmbed(spec))
        self.stages = len(spec.stage_blocks)

    @property
    def comparable(self) -> tuple[str, ...]:
        return (*(f"embed.backbone.stages.{index}" for index in range(self.stages)), *super().comparable)
