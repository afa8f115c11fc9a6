"""Convolutional encoders as data (paper Table 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpt_deploy.core.encoders.base import EncoderFamily, EncoderSpec, register_encoder_spec, stage_problems
from dpt_deploy.core.ranges import Channels, Count, TimmName


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class CNNSpec(EncoderSpec):
    """timm's convolutional network ``timm_name`` (paper Table 8), tapped at its four stages.

    ``stage_blocks`` builds another number of blocks than timm's; ``stage_channels`` are then those of basic blocks.
    """

    kind: Literal["cnn"] = "cnn"
    timm_name: TimmName
    stage_blocks: tuple[Count, ...] = ()
    stage_channels: tuple[Channels, ...] = ()

    family: ClassVar[EncoderFamily] = "convolutional"

    @property
    def stages(self) -> tuple[int, ...]:
        return self.stage_channels

    def problems(self) -> Iterable[tuple[str, str]]:
        return stage_problems(self.stage_blocks, self.stage_channels)
