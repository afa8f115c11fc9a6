"""Transposed convolutions between fusion and head, for an encoder whose finest map is coarse (LeViT)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.model.decoders import ENLARGED


class ConvTransposeNorm(nn.Module):
    """Transposed convolution 3x3 of stride 2 and batch norm: exactly twice the size.

    The row and column that make it twice come from ``output_padding``; the published code passes its dilation of 1 in
    that place.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, 2h, 2w)."""
        out: Tensor = self.norm(self.conv(x))
        return out


class Enlarge(nn.Module):
    """Two transposed convolutions, each with a hard swish: four times the size, a quarter of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvTransposeNorm(channels, channels // 2)
        self.second = ConvTransposeNorm(channels // 2, channels // ENLARGED)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C / 4, 4h, 4w)."""
        return F.hardswish(self.second(F.hardswish(self.first(x))))
