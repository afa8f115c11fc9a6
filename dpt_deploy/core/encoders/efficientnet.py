"""EfficientNet-Lite as data: inverted residual blocks without attention (Tan and Le 2019, and its "lite" variant)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from dpt_deploy.core.encoders.base import EncoderFamily, EncoderSpec, register_encoder_spec, stage_problems
from dpt_deploy.core.ranges import Channels, Count, Positive


class StageForm(NamedTuple):
    """Depthwise kernel, stride of the first block, and widening of a stage's blocks."""

    kernel: int
    stride: int
    expansion: int


FORMS = (  # of the seven stages; the stem in front of them halves the image
    StageForm(3, 1, 1),
    StageForm(3, 2, 6),
    StageForm(5, 2, 6),
    StageForm(3, 2, 6),
    StageForm(5, 1, 6),
    StageForm(5, 2, 6),
    StageForm(3, 1, 6),
)
LEVELS = (1, 2, 4, 6)  # the last stage at 1/4, 1/8, 1/16 and 1/32 resolution


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class EfficientNetSpec(EncoderSpec):
    """EfficientNet-Lite without its classifier; the taps ``stage0`` to ``stage3`` are the last maps of each resolution.

    The seven stages have ``stage_blocks`` blocks of ``stage_channels`` channels.
    """

    kind: Literal["efficientnet"] = "efficientnet"
    stem_channels: Channels = 32
    stage_blocks: tuple[Count, ...] = (1, 3, 3, 5, 5, 6, 1)
    stage_channels: tuple[Channels, ...] = (24, 32, 48, 96, 136, 232, 384)
    norm_eps: Positive = 1e-3

    family: ClassVar[EncoderFamily] = "convolutional"
    hidden: ClassVar[tuple[str, ...]] = ("norm_eps",)

    @property
    def stages(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[stage] for stage in LEVELS if stage < len(self.stage_channels))

    def problems(self) -> Iterable[tuple[str, str]]:
        if {len(self.stage_blocks), len(self.stage_channels)} != {len(FORMS)}:
            yield (
                f"{len(self.stage_blocks)} stage_blocks and {len(self.stage_channels)} stage_channels",
                f"give blocks and channels of exactly {len(FORMS)} stages",
            )
        yield from stage_problems(self.stage_blocks, self.stage_channels)
