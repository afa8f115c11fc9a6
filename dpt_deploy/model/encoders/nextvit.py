"""Next-ViT: convolution blocks, and transformer blocks whose keys are averaged over runs of tokens.

Li et al., "Next-ViT", 2022 (arXiv 2207.05501). Modules have the names of the published code, so that its keys need no
map. That code leaves its batch norms out while it is exported; here they are always computed.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.core.encoders import NextViTSpec, Tap
from dpt_deploy.core.encoders.base import stage_of
from dpt_deploy.model.encoders.base import Encoder
from dpt_deploy.model.encoders.norms import PreNorms

_POOLED = (8, 4, 2, 1)  # of each stage: keys are averages over so many tokens, squared
_MLP_CONVOLUTION, _MLP_TRANSFORMER = 3, 2  # widths of the perceptrons, in those of the block


class ConvNormAct(nn.Module):
    """Convolution 3x3, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, stride: int, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        return F.relu(self.norm(self.conv(x)))


class HalvingPool(nn.AvgPool2d):
    """Averages of 2x2 pixels; windows at an odd edge average the pixels that they have.

    All legal images have even maps here, so that the export need not know of edges.
    """

    def __init__(self) -> None:
        super().__init__(2, stride=2, ceil_mode=True, count_include_pad=False)


class Projection(nn.Module):
    """Projection to other channels and, with a stride of 2, to half the resolution; the identity if neither changes."""

    def __init__(self, channels: int, out: int, stride: int, eps: float) -> None:
        super().__init__()
        changes = stride > 1 or channels != out
        self.avgpool: nn.Module = HalvingPool() if stride > 1 else nn.Identity()
        self.conv: nn.Module = nn.Conv2d(channels, out, kernel_size=1, bias=False) if changes else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm2d(out, eps=eps) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, ceil(h / stride), ceil(w / stride))."""
        out: Tensor = self.norm(self.conv(self.avgpool(x)))
        return out


class ConvolutionalAttention(nn.Module):
    """Multi-head convolutional attention (section 3.2): a grouped 3x3 convolution and a 1x1 convolution."""

    def __init__(self, channels: int, head_width: int, eps: float) -> None:
        super().__init__()
        groups = channels // head_width
        self.group_conv3x3 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=eps)
        self.projection = nn.Conv2d(channels, channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        out: Tensor = self.projection(F.relu(self.norm(self.group_conv3x3(x))))
        return out


class PooledAttention(nn.Module):
    """Efficient multi-head self-attention (section 3.3): queries of all tokens, keys and values of their averages.

    Tokens lie row by row, and each run of ``pooled`` of them becomes one, whatever the width of the map. A rest that
    fills no run is left out, as the published code does; all legal images have whole runs.
    """

    def __init__(self, width: int, head_width: int, pooled: int, eps: float) -> None:
        super().__init__()
        self.heads, self.head_width = width // head_width, head_width
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.sr: nn.Module = nn.AvgPool1d(pooled, stride=pooled) if pooled > 1 else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm1d(width, eps=eps) if pooled > 1 else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        averages = self.norm(self.sr(tokens.transpose(1, 2))).transpose(1, 2)
        query, key, value = self._split(self.q(tokens)), self._split(self.k(averages)), self._split(self.v(averages))
        out: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, heads, N, D / heads)."""
        batch, count, _width = tokens.shape
        return tokens.reshape(batch, count, self.heads, self.head_width).transpose(1, 2)


class Perceptron(nn.Module):
    """Two 1x1 convolutions with a ReLU between them."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels * ratio, kernel_size=1)
        self.conv2 = nn.Conv2d(channels * ratio, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        return out


class NextConvBlock(nn.Module):
    """Convolution block (section 3.2)."""

    pre_norms: ClassVar[PreNorms] = (("norm", ("mlp.conv1",)),)

    def __init__(self, spec: NextViTSpec, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.patch_embed = Projection(channels, out, stride, spec.norm_eps)
        self.mhca = ConvolutionalAttention(out, spec.head_width, spec.norm_eps)
        self.norm = nn.BatchNorm2d(out, eps=spec.norm_eps)
        self.mlp = Perceptron(out, _MLP_CONVOLUTION)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, h / stride, w / stride)."""
        x = self.patch_embed(x)
        x = x + self.mhca(x)
        return x + self.mlp(self.norm(x))


class NextTransformerBlock(nn.Module):
    """Transformer block (section 3.3): attention makes three quarters of the channels, convolution the rest."""

    # Innermost first. An average of whole runs and a scaling of channels can change places.
    pre_norms: ClassVar[PreNorms] = (
        ("e_mhsa.norm", ("e_mhsa.k", "e_mhsa.v")),
        ("norm1", ("e_mhsa.q", "e_mhsa.k", "e_mhsa.v")),
        ("norm2", ("mlp.conv1",)),
    )

    def __init__(self, spec: NextViTSpec, channels: int, stage: int, stride: int) -> None:
        super().__init__()
        out, attended, eps = spec.stage_channels[stage], spec.attention_channels(stage), spec.norm_eps
        self.patch_embed = Projection(channels, attended, stride, eps)
        self.norm1 = nn.BatchNorm2d(attended, eps=eps)
        self.e_mhsa = PooledAttention(attended, spec.head_width, _POOLED[stage] ** 2, eps)
        self.projection = Projection(attended, out - attended, 1, eps)
        self.mhca = ConvolutionalAttention(out - attended, spec.head_width, eps)
        self.norm2 = nn.BatchNorm2d(out, eps=eps)
        self.mlp = Perceptron(out, _MLP_TRANSFORMER)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, h / stride, w / stride)."""
        x = self.patch_embed(x)
        tokens = self.e_mhsa(self.norm1(x).flatten(2).transpose(1, 2))
        x = x + tokens.transpose(1, 2).reshape(x.shape)
        convolved = self.projection(x)
        x = torch.cat((x, convolved + self.mhca(convolved)), dim=1)
        return x + self.mlp(self.norm2(x))


class NextViTEncoder(Encoder):
    """Next-ViT up to the last tapped block: (B, 3, H, W) to the maps (B, C, H/s, W/s) of the tapped blocks."""

    def __init__(self, spec: NextViTSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        widths, strides = (3, *spec.stem_widths, spec.stem_widths[-1]), (2, 1, 1, 2)
        self.stem = nn.Sequential(
            *(ConvNormAct(widths[at], widths[at + 1], strides[at], spec.norm_eps) for at in range(len(strides)))
        )
        channels, last = widths[-1], max(tap for tap in taps if isinstance(tap, int))
        self.blocks = nn.ModuleList()
        for index in range(last + 1):
            self.blocks.append(_make_block(spec, index, channels))
            channels = spec.map_of(index)[1]

    @property
    def comparable(self) -> tuple[str, ...]:
        return ("stem", *(f"blocks.{index}" for index in range(len(self.blocks))))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features: dict[Tap, Tensor] = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            features[index] = x
        return [features[tap] for tap in self.taps]


def _make_block(spec: NextViTSpec, index: int, channels: int) -> nn.Module:
    """Block ``index`` behind one of ``channels`` channels; the first of each stage but the first halves the map."""
    stage = stage_of(index, spec.stage_blocks)
    stride = 2 if stage and index == sum(spec.stage_blocks[:stage]) else 1
    if spec.is_transformer(index):
        return NextTransformerBlock(spec, channels, stage, stride)
    return NextConvBlock(spec, channels, spec.conv_channels[stage], stride)
