"""Swin Transformers as data: attention inside windows that shift from block to block (MiDaS 3.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from dpt_deploy.core.encoders.base import MAX_BLOCKS, MAX_PARAMETERS, PAPER_STRIDES, EncoderSpec, register_encoder_spec
from dpt_deploy.core.ranges import Channels, Count, Range

PATCH = 4  # pixels; the stages lie at 1/4, 1/8, 1/16 and 1/32
_STAGES = len(PAPER_STRIDES)


class StageWindows(NamedTuple):
    """Side of the windows of one stage, and the shift of every second block; both in cells of the stage's map."""

    side: int
    shift: int


@dataclass(frozen=True, kw_only=True)
class WindowedSpec(EncoderSpec):
    """Four stages of blocks whose attention stays inside windows.

    ``grid`` is the side of the finest map of a training image, in patches of 4 pixels (96 for 384 pixels). It fixes the
    windows: they are no larger than the map of their stage, and a window that covers the whole map does not shift.
    They keep this size for images of another size.
    """

    width: Channels
    depths: tuple[Count, ...]
    heads: tuple[Channels, ...]
    window: Annotated[int, Range(1, 1024)]
    grid: Annotated[int, Range(1, 16384)]

    @property
    def stages(self) -> tuple[int, ...]:
        return tuple(self.width << stage for stage in range(_STAGES))

    @property
    def windows(self) -> tuple[StageWindows, ...]:
        """The windows of each stage, as they were built for the training size."""
        grids = (max(1, self.grid >> stage) for stage in range(_STAGES))
        return tuple(
            StageWindows(self.window, self.window // 2) if side > self.window else StageWindows(side, 0)
            for side in grids
        )

    @property
    def size_step(self) -> int:
        """Image sides of whose multiples each shifted map is whole windows, or half a window short of them.

        Then it does not matter whether the map is padded before it is shifted (Hugging Face) or afterwards (timm).
        """
        steps = [int(PAPER_STRIDES[-1])]
        for stride, (side, shift) in zip(PAPER_STRIDES, self.windows, strict=True):
            if shift:
                steps.append(int(stride) * (shift if side == 2 * shift else side))
        return math.lcm(*steps)

    def problems(self) -> Iterable[tuple[str, str]]:
        if len(self.depths) != _STAGES or len(self.heads) != _STAGES:
            yield (
                f"{len(self.depths)} depths and {len(self.heads)} heads",
                f"give one number for each of {_STAGES} stages",
            )
            return
        if self.grid % 8:
            yield f"grid is {self.grid}", "it is a multiple of 8: the map is halved three times"
        for width, heads in zip(self.stages, self.heads, strict=True):
            if width % heads:
                yield f"{heads} heads of a width of {width}", "the width of a stage is a multiple of its heads"
        cost = sum(12 * width**2 * depth for width, depth in zip(self.stages, self.depths, strict=True))
        if sum(self.depths) > MAX_BLOCKS or cost > MAX_PARAMETERS:
            yield f"{sum(self.depths)} blocks with {cost:,} parameters", "correct width or depths"


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class SwinSpec(WindowedSpec):
    """Swin Transformer (Liu et al., ICCV 2021): norms before each part, and a table of relative positions."""

    kind: Literal["swin"] = "swin"


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class Swin2Spec(WindowedSpec):
    """Swin Transformer V2 (Liu et al., CVPR 2022): norms after each part, cosine attention, continuous positions.

    ``pretrained_windows`` are the windows of an earlier training, by which offsets are scaled; 0: the stage's own.
    """

    kind: Literal["swin2"] = "swin2"
    pretrained_windows: tuple[Annotated[int, Range(0, 1024)], ...] = (0, 0, 0, 0)

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if len(self.pretrained_windows) != _STAGES:
            yield f"{len(self.pretrained_windows)} pretrained_windows", f"give one for each of {_STAGES} stages"
