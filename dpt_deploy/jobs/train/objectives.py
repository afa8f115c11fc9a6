"""Training objectives: the loss of a network's output, with auxiliary parameters if it needs any.

An objective is a module called with (network, images, targets). Its own parameters are trained with the network's and
kept in the checkpoint, but are not part of the resulting weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.jobs.train.losses import ALPHA, TRIM, depth_loss, segmentation_loss


class DepthObjective(nn.Module):
    """The loss of DPT §4.1 against inverse depth (B, H, W); unknown depth is not finite.

    The loss is computed from the output *before* the final ReLU (of the submodule ``last``, in float32). A network
    trained from scratch first learns that higher pixels are farther away and sends the upper half below zero. There the
    ReLU has no gradient that could bring a near object back. The loss is invariant to shift and scale, so two small
    terms choose them. One lifts the output above zero, where the ReLU has no effect. The other keeps its deviation near
    1; without it Adam's steps would increase the deviation without limit.
    """

    below = 0.1  # weight of the mean depth below zero, in deviations
    drift = 0.01  # weight of the squared logarithm of the deviation

    def __init__(self, last: str, *, alpha: float = ALPHA, trim: float = TRIM) -> None:
        super().__init__()
        self.last = last
        self.alpha, self.trim = alpha, trim

    def forward(self, network: nn.Module, images: Tensor, inverse: Tensor) -> Tensor:
        last = network.get_submodule(self.last)
        with _input_of(last) as seen:
            network(images)
        with torch.autocast(images.device.type, enabled=False):
            output: Tensor = last(seen[0].float()).squeeze(1)
        centre = output.flatten(1).median(dim=1).values[:, None, None]
        deviation = (output - centre).abs().mean(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        below = (F.relu(-output) / deviation.detach()).mean()
        drift = deviation.log().square().mean()
        loss = depth_loss(output, inverse, inverse.isfinite(), alpha=self.alpha, trim=self.trim)
        return loss + self.below * below + self.drift * drift


class SegmentationObjective(nn.Module):
    """The loss of DPT §4.2 against labels (B, H, W), with an auxiliary head on an intermediate feature.

    Args:
        tap: name of the submodule whose output the head reads: the penultimate fusion block.
        channels: channels of that output.
        classes: number of classes.
        seed: of the initial weights of the head.
    """

    def __init__(self, tap: str, channels: int, classes: int, *, seed: int) -> None:
        super().__init__()
        self.tap = tap
        self.auxiliary = AuxiliaryHead(channels, classes, seed=seed)

    def forward(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with _output_of(network.get_submodule(self.tap)) as seen:
            logits = network(images)
        return segmentation_loss(logits, self.auxiliary(seen[0]), labels)


class AuxiliaryHead(nn.Sequential):
    """Feature (B, C, h, w) to class logits (B, classes, h, w): the published code's ``auxlayer``."""

    def __init__(self, channels: int, classes: int, *, seed: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(channels, classes, kernel_size=1),
        )
        generator = torch.Generator().manual_seed(seed)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


@contextmanager
def _input_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of ``module`` inside the block."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of ``module`` inside the block."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()
