"""Next-ViT as data: convolution blocks, and a transformer block at the end of each group (Li et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpt_deploy.core.encoders.base import EncoderSpec, register_encoder_spec, stage_of, stage_problems
from dpt_deploy.core.ranges import Channels, Count, Positive

STAGES = 4
_ATTENTION_SHARE = 0.75  # of a transformer block's channels; the rest is convolved


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class NextViTSpec(EncoderSpec):
    """Next-ViT without its classifier. Blocks are counted through all stages, and their outputs are maps.

    Stage ``s`` has ``stage_blocks[s]`` blocks. Those of convolutions have ``conv_channels[s]`` channels. The others
    have ``stage_channels[s]``: none in the first stage, the last of the second and the fourth, and one of every
    ``group`` in the third. Heads, and groups of grouped convolutions, have ``head_width`` channels.
    """

    kind: Literal["nextvit"] = "nextvit"
    stem_widths: tuple[Channels, Channels, Channels] = (64, 32, 64)
    stage_blocks: tuple[Count, ...] = (3, 4, 30, 3)
    conv_channels: tuple[Channels, ...] = (96, 192, 384, 768)
    stage_channels: tuple[Channels, ...] = (96, 256, 512, 1024)
    group: Count = 5
    head_width: Channels = 32
    norm_eps: Positive = 1e-5

    hidden: ClassVar[tuple[str, ...]] = ("norm_eps",)

    @property
    def blocks(self) -> int:
        return sum(self.stage_blocks)

    def map_of(self, block: int, /) -> tuple[float, int]:
        stage = stage_of(block, self.stage_blocks)
        channels = self.stage_channels if self.is_transformer(block) else self.conv_channels
        return self.strides[stage], channels[stage]

    def is_transformer(self, block: int) -> bool:
        """True if block ``block`` has attention."""
        stage = stage_of(block, self.stage_blocks)
        place = block - sum(self.stage_blocks[:stage]) + 1  # counted from 1
        return stage > 0 and place % (self.group if stage == 2 else self.stage_blocks[stage]) == 0

    def attention_channels(self, stage: int) -> int:
        """Channels of a transformer block that its attention computes, a multiple of ``head_width``."""
        wanted, width = int(self.stage_channels[stage] * _ATTENTION_SHARE), self.head_width
        rounded = max(width, (wanted + width // 2) // width * width)
        return rounded if rounded >= 0.9 * wanted else rounded + width

    def problems(self) -> Iterable[tuple[str, str]]:
        lengths = {len(self.stage_blocks), len(self.conv_channels), len(self.stage_channels)}
        if lengths != {STAGES}:
            yield "stages of another number than four", "give blocks and channels of exactly four stages"
            return
        yield from stage_problems(self.stage_blocks, self.stage_channels)
        if self.stage_blocks[2] % self.group:
            yield f"{self.stage_blocks[2]} blocks in groups of {self.group}", "the third stage has whole groups"
        wrong = [width for width in (*self.conv_channels, *self.stage_channels) if width % self.head_width]
        if wrong:
            yield f"{wrong[0]} channels in heads of {self.head_width}", "channels are multiples of head_width"
        if any(self.attention_channels(stage) >= self.stage_channels[stage] for stage in range(1, STAGES)):
            yield (
                "transformer blocks of so few heads that none is left to convolve",
                "give more channels, or less wide heads",
            )
