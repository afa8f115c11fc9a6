"""A head that the package does not have: a map of confidence, computed next to the depth from the same decoder."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.fusion import upsample
from dpt_deploy.model.heads import Head


class ConfidenceHead(Head):
    """Map (B, C, h, w) to confidence (B, *size), or (B, 2h, 2w)."""

    last = "conv2"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.fusion_channels, 8, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(8, 1, kernel_size=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        x = upsample(self.conv1(x), size, align_corners=True)
        return self.conv2(F.relu(x)).squeeze(1)
