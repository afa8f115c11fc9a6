"""A kind of encoder that the package does not have: projected patches, mixed channel by channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from dpt_deploy.core.encoders import EncoderSpec, Tap, Tokens
from dpt_deploy.model.encoders.base import Encoder


@dataclass(frozen=True, kw_only=True)
class MixerSpec(EncoderSpec):
    """``depth`` blocks of ``width`` channels on patches of ``patch`` pixels, which need not be a power of two."""

    kind: Literal["mixer"] = "mixer"
    width: int
    depth: int
    patch: int = 14
    slope: float = 0.1  # a key that no other kind has

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.width, self.patch, prefix=0)

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def strides(self) -> tuple[float, ...]:
        return (self.patch / 4, self.patch / 2, self.patch, 2 * self.patch)


class MixerEncoder(Encoder):
    """Image (B, 3, H, W) to tokens (B, H/P * W/P, D) of the tapped blocks."""

    def __init__(self, spec: MixerSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.proj = nn.Conv2d(3, spec.width, kernel_size=spec.patch, stride=spec.patch)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(spec.width), nn.Linear(spec.width, spec.width), nn.LeakyReLU(spec.slope))
            for _ in range(spec.depth)
        )

    @property
    def comparable(self) -> tuple[str, ...]:
        return tuple(f"blocks.{index}" for index in range(len(self.blocks)))

    def forward(self, image: Tensor) -> list[Tensor]:
        tokens = self.proj(image).flatten(2).transpose(1, 2)
        features: dict[Tap, Tensor] = {}
        for index, block in enumerate(self.blocks):
            tokens = tokens + block(tokens)
            features[index] = tokens
        return [features[tap] for tap in self.taps]
