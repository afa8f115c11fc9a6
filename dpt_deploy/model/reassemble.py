"""Reassemble: tokens back to an image-like feature map at the decoder's resolution (paper §3.1, Eq. 1-4).

``Reassemble = Resample ∘ Concatenate ∘ Read``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpt_deploy.core.spec import Readout


class IgnoreReadout(nn.Module):
    """Read, Eq. 2: drop the leading tokens."""

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, prefix + N, D) to (B, N, D)."""
        return tokens[:, self.prefix_tokens :]


class AddReadout(nn.Module):
    """Read, Eq. 3: add the read-out token to every other; two leading tokens (distilled DeiT) are averaged first."""

    def __init__(self, prefix_tokens: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, prefix + N, D) to (B, N, D)."""
        prefix = tokens[:, : self.prefix_tokens]
        return tokens[:, self.prefix_tokens :] + prefix.mean(dim=1, keepdim=True)


class ProjectReadout(nn.Module):
    """Read, Eq. 4: concatenate the read-out token to every other, project 2D to D, exact GELU.

    With two leading tokens the first alone is projected, as in the original code.
    """

    def __init__(self, prefix_tokens: int, width: int) -> None:
        super().__init__()
        self.prefix_tokens = prefix_tokens
        self.project = nn.Linear(2 * width, width)
        self.act = nn.GELU()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, prefix + N, D) to (B, N, D)."""
        patches = tokens[:, self.prefix_tokens :]
        readout = tokens[:, :1].expand_as(patches)
        return self.act(self.project(torch.cat((patches, readout), dim=-1)))


def make_readout(kind: Readout, prefix_tokens: int, width: int) -> nn.Module:
    """The Read operation of the paper's Table 7."""
    if kind == "project":
        return ProjectReadout(prefix_tokens, width)
    return AddReadout(prefix_tokens) if kind == "add" else IgnoreReadout(prefix_tokens)


class Reassemble(nn.Module):
    """Tokens (B, prefix + h * w, D) to a map (B, C, h * s, w * s) with ``s = patch / stride`` (paper Eq. 1).

    ``stride`` is the map's in the image, ``patch`` that of the tokens; one divides the other. A transposed convolution
    makes a finer map, a strided convolution a coarser one. Its kernel is ``coarsens``: of 3, padded, it makes
    ``ceil(h / 2)`` rows for a factor of 2; of 2, without padding, ``floor(h / 2)``.
    """

    def __init__(
        self,
        readout: Readout,
        prefix_tokens: int,
        width: int,
        channels: int,
        stride: float,
        patch: int = 16,
        *,
        coarsens: int = 3,
    ) -> None:
        super().__init__()
        self.readout = make_readout(readout, prefix_tokens, width)
        self.projection = nn.Conv2d(width, channels, kernel_size=1)
        self.resize = _resample(channels, stride, patch, coarsens)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """``height`` and ``width`` are those of the patch grid."""
        patches = self.readout(tokens)
        patches = patches.transpose(1, 2).reshape(patches.shape[0], patches.shape[2], height, width)
        return self.resize(self.projection(patches))


class KeepMap(nn.Module):
    """A tapped convolutional stage is a map already: nothing to reassemble (DPT-Hybrid, taps R0 and R1)."""

    def forward(self, feature: Tensor, *_grid: int) -> Tensor:
        return feature


def _resample(channels: int, stride: float, patch: int, kernel: int) -> nn.Module:
    if stride < patch:
        factor = round(patch / stride)
        return nn.ConvTranspose2d(channels, channels, kernel_size=factor, stride=factor)
    if stride > patch:
        return nn.Conv2d(channels, channels, kernel, stride=round(stride / patch), padding=(kernel - 1) // 2)
    return nn.Identity()
