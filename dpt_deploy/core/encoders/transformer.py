"""Vision Transformers as data: the plain one, and the one on a ResNet's feature map (paper §3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from dpt_deploy.core.encoders.base import EncoderSpec, Tokens, register_encoder_spec, stage_problems, token_problems
from dpt_deploy.core.ranges import Channels, Count, Positive, Range

PositionResize = Literal["bilinear", "nearest", "tiled"]
WeightStandardisation = Literal["sqrt", "sum"]  # divide by sqrt(σ²+1e-8) (timm >= 0.4.12) or by σ+1e-5 (timm 0.4.5)

_PATCHES = (16, 8)  # the paper's (§3.1), and half of it for small images


@dataclass(frozen=True, kw_only=True)
class TransformerSpec(EncoderSpec):
    """A Vision Transformer with learned positions, whatever makes its tokens.

    ``grid`` is the side of the position table in patches (24 for 384 pixels). ``prefix_tokens`` is 2 for distilled
    DeiT. ``position_resize`` is the rule that resizes the table to another grid; ``nearest`` and ``tiled`` are defects,
    planted where a study must prove that it would notice one.
    """

    width: Channels
    depth: Annotated[int, Range(1, 1024)]
    heads: Channels
    patch: Annotated[int, Range(1, 1024)] = 16
    grid: Annotated[int, Range(1, 4096)] = 24
    prefix_tokens: Annotated[int, Range(0, 1024)] = 1
    norm_eps: Positive = 1e-6
    position_resize: PositionResize = "bilinear"

    hidden: ClassVar[tuple[str, ...]] = ("norm_eps",)
    takes_any_tokens: ClassVar[bool] = True
    planted: ClassVar[tuple[str, ...]] = ("position_resize",)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.width, self.patch, self.prefix_tokens)

    @property
    def blocks(self) -> int:
        return self.depth

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from token_problems(self.width, self.heads, self.depth, self.grid)


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class ViTSpec(TransformerSpec):
    """A plain Vision Transformer on patches of ``patch`` pixels (paper §3.1)."""

    kind: Literal["vit"] = "vit"

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if self.patch not in _PATCHES:
            yield (
                f"patches of {self.patch} pixels; expected {' or '.join(map(str, _PATCHES))}",
                "reassembling to 1/4, 1/8, 1/16 and 1/32 is defined for those",
            )


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class HybridSpec(TransformerSpec):
    """A Vision Transformer on the output of a ResNetV2 at 1/16 resolution (DPT-Hybrid, paper §3.1).

    The ResNet has ``stage_blocks`` blocks of ``stage_channels`` channels in its stages.
    """

    kind: Literal["hybrid"] = "hybrid"
    stem_channels: Channels = 64
    stage_blocks: tuple[Count, ...] = ()
    stage_channels: tuple[Channels, ...] = ()
    weight_standardisation: WeightStandardisation = "sqrt"

    hidden: ClassVar[tuple[str, ...]] = ("norm_eps", "weight_standardisation")

    @property
    def stages(self) -> tuple[int, ...]:
        return self.stage_channels

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        yield from stage_problems(self.stage_blocks, self.stage_channels)
        if not self.stage_blocks:
            yield "no stage_blocks", "give the blocks and channels of the ResNet's stages"
        if self.patch != _PATCHES[0]:
            yield (
                f"patches of {self.patch} pixels; expected {_PATCHES[0]}",
                "the ResNet in front of the transformer ends at 1/16 resolution",
            )
