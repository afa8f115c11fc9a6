"""Fusion: four maps become one by RefineNet-style blocks that raise the resolution (paper §3.1, Figure 1 right)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.model.decoders import DecoderForm


class ResidualConvUnit(nn.Module):
    """``x + conv(relu(conv(relu(x))))``; with batch norm after each convolution for segmentation (paper §4.2).

    Without batch norm the convolutions have biases, unless ``form`` has none.
    ``form.in_place``: MiDaS v2.1 and FocusOnDepth were trained with an in-place first ReLU, so that the
    shortcut carries ``relu(x)``.
    """

    def __init__(self, channels: int, form: DecoderForm, *, batch_norm: bool) -> None:
        super().__init__()
        bias = form.biases and not batch_norm
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=bias)
        self.bn1: nn.Module = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=bias)
        self.bn2: nn.Module = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.inplace_quirk = form.in_place

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        rectified = F.relu(x)
        residual = self.bn1(self.conv1(rectified))
        residual = self.bn2(self.conv2(F.relu(residual)))
        return residual + (rectified if self.inplace_quirk else x)


class Fusion(nn.Module):
    """One fusion block: add the refined skip, refine, upsample (bilinear, aligned corners), project 1x1.

    The coarsest block has no coarser path, hence no unit for a skip: the original builds one that never runs. In
    FocusOnDepth it runs, on the map itself.
    """

    def __init__(self, channels: int, out: int, form: DecoderForm, *, batch_norm: bool, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualConvUnit(channels, form, batch_norm=batch_norm) if has_skip else None
        self.unit = ResidualConvUnit(channels, form, batch_norm=batch_norm)
        self.out_conv = nn.Conv2d(channels, out, kernel_size=1) if form.projects else nn.Identity()
        self.path_leads = form.path_leads

    def forward(self, path: Tensor, skip: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """``path`` and ``skip`` (B, C, h, w) to (B, out, *size), or to (B, out, 2h, 2w) where no size is given.

        Where the path leads, ``skip`` may have another size.
        """
        path = with_skip(path, skip, self.skip_unit, path_leads=self.path_leads)
        return self.out_conv(upsample(self.unit(path), size, align_corners=True))


def with_skip(path: Tensor, skip: Tensor | None, unit: nn.Module | None, *, path_leads: bool) -> Tensor:
    """``path`` plus the skip that ``unit`` refines; where the path leads, the skip is resized to it first.

    Without a skip ``path`` is the coarsest map, which ``unit`` refines if there is one.
    """
    if unit is None:
        return path
    if skip is None:
        refined: Tensor = unit(path)
        return refined
    if path_leads:
        skip = F.interpolate(skip, size=path.shape[2:], mode="bilinear", align_corners=False)
    joined: Tensor = path + unit(skip)
    return joined


def upsample(x: Tensor, size: tuple[int, int] | None, *, align_corners: bool) -> Tensor:
    """Resize bilinearly to ``size``; double the size if it is None."""
    if size is None:
        return upsample2(x, align_corners=align_corners)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def upsample2(x: Tensor, *, align_corners: bool) -> Tensor:
    """Bilinear x2. The corner rule is part of the trained weights: see docs/explanation/imaging.md."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=align_corners)
