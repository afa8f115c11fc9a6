"""LeViT as data: attention with learned biases on three grids (Graham et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dpt_deploy.core.encoders.base import EncoderSpec, register_encoder_spec, stage_of, stage_problems
from dpt_deploy.core.ranges import Channels, Count, Side

STAGES = 3
STRIDE = 16  # of the first stage, in pixels


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class LeViTSpec(EncoderSpec):
    """LeViT without its classifiers, for images of ``side`` x ``side`` pixels.

    Its biases of attention belong to the grid that they were learned for, so there is no other size. Stage ``s`` has
    ``stage_blocks[s]`` pairs of attention and perceptron, with ``stage_heads[s]`` heads. Keys have ``key_width``
    channels in a head, values twice as many. Taps count halves of pairs, as the published code does; an attention
    that halves the grid, and the perceptron behind it, stand between two stages.
    """

    kind: Literal["levit"] = "levit"
    stage_channels: tuple[Channels, ...] = (384, 512, 768)
    stage_blocks: tuple[Count, ...] = (4, 4, 4)
    stage_heads: tuple[Channels, ...] = (6, 9, 12)
    key_width: Channels = 32
    side: Side = 224

    @property
    def fixed_size(self) -> tuple[int, int]:
        return self.side, self.side

    @property
    def grids(self) -> tuple[int, ...]:
        """Side of the token grid of each stage: halved and rounded up."""
        first = self.side // STRIDE
        return first, (first + 1) // 2, ((first + 1) // 2 + 1) // 2

    @property
    def strides(self) -> tuple[float, ...]:
        return tuple(float(STRIDE << stage) for stage in range(STAGES))

    @property
    def halves(self) -> tuple[int, ...]:
        """Number of blocks on the grid of each stage: the halving ones belong to the stage behind them."""
        return tuple(2 * pairs + (2 if stage else 0) for stage, pairs in enumerate(self.stage_blocks))

    @property
    def blocks(self) -> int:
        return sum(self.halves)

    def map_of(self, block: int, /) -> tuple[float, int]:
        stage = stage_of(block, self.halves)
        return self.strides[stage], self.stage_channels[stage]

    def problems(self) -> Iterable[tuple[str, str]]:
        if {len(self.stage_blocks), len(self.stage_channels), len(self.stage_heads)} != {STAGES}:
            yield "stages of another number than three", "give blocks, channels and heads of exactly three stages"
            return
        yield from stage_problems(self.stage_blocks, self.stage_channels)
        if self.side % (2 * STRIDE):
            yield f"images of {self.side} pixels", f"the side is a multiple of {2 * STRIDE}"
        if self.stage_channels[0] % 8:
            yield f"{self.stage_channels[0]} channels behind the stem", "its four convolutions double an eighth of them"
        if any(channels < self.key_width for channels in self.stage_channels):
            yield f"keys of {self.key_width} channels in a narrower stage", "lower key_width"
