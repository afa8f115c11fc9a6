"""Encoders as frozen data: one class a kind, with the numbers that kind is built from.

A recipe and a sidecar name the kind; the other keys are those of its class. The modules that these classes describe
are in :mod:`dpt_deploy.model.encoders`: this half needs neither PyTorch nor timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from dpt_deploy.core.ranges import Channels, Count, Positive, Range, TimmName

PositionResize = Literal["bilinear", "nearest", "tiled"]
WeightStandardisation = Literal["sqrt", "sum"]  # divide by sqrt(σ²+1e-8) (timm >= 0.4.12) or by σ+1e-5 (timm 0.4.5)
EncoderFamily = Literal["transformer", "convolutional"]
Tap = int | str  # a transformer block (0-based), or "stage0" … for the feature map of a stage

PAPER_STRIDES = (4.0, 8.0, 16.0, 32.0)  # pixels between neighbours in the four fused maps, finest first (Figure 1)
_MAX_BLOCKS = 1000
_MAX_PARAMETERS = 1 << 33  # of the blocks, or of the position table: several times the largest published encoders
_PATCHES = (16, 8)  # the paper's (§3.1), and half of it for small images


class Tokens(NamedTuple):
    """Token sequence of an encoder: ``width`` channels, one token for ``patch`` x ``patch`` pixels, ``prefix`` more."""

    width: int
    patch: int
    prefix: int


@dataclass(frozen=True)
class EncoderSpec:
    """The network in front of the decoder, as far as the decoder and the rest of the program ask.

    Subclasses are the kinds. Each is registered by :func:`register_encoder_spec` under the default of its ``kind``.
    The properties have the answers of an encoder without blocks and stages; a kind overrides what it has.
    """

    kind: str

    family: ClassVar[EncoderFamily] = "transformer"
    hidden: ClassVar[tuple[str, ...]] = ()  # keys that no tensor shows: the description in a checkpoint sets them
    planted: ClassVar[tuple[str, ...]] = ()  # keys that plant a defect: the recipe sets them, whatever the checkpoint

    @property
    def tokens(self) -> Tokens | None:
        """The sequence that its blocks return; None where taps are feature maps only."""
        return None

    @property
    def blocks(self) -> int:
        """Number of transformer blocks that a recipe may tap, counted from 0."""
        return 0

    @property
    def stages(self) -> tuple[int, ...]:
        """Channels of the feature maps that a recipe may tap as ``stage0``, ``stage1``, …; each stands on its level."""
        return ()

    @property
    def strides(self) -> tuple[float, ...]:
        """Stride in the image, in pixels, of the four maps that the decoder fuses, finest first."""
        return PAPER_STRIDES

    def problems(self) -> Iterable[tuple[str, str]]:
        """List values that no network can be built from, each with a hint."""
        return ()

    @classmethod
    def variant(cls, value: Mapping[str, Any]) -> type[EncoderSpec]:
        """The class of an encoder table, chosen by its ``kind``.

        Raises:
            ValueError: no such kind is registered.
        """
        kind = value.get("kind")
        if kind not in ENCODER_SPECS:
            found = "missing" if kind is None else repr(kind)
            raise ValueError(f"kind is {found}; expected {' or '.join(ENCODER_SPECS)}")
        return ENCODER_SPECS[kind]


ENCODER_SPECS: dict[str, type[EncoderSpec]] = {}
_Spec = TypeVar("_Spec", bound=type[EncoderSpec])


def register_encoder_spec(cls: _Spec) -> _Spec:
    """Make ``cls`` the class of the kind that its field ``kind`` has as default."""
    kind: Any = next(entry.default for entry in fields(cls) if entry.name == "kind")
    ENCODER_SPECS[kind] = cls
    return cls


def other_kinds_keys(cls: type[EncoderSpec]) -> frozenset[str]:
    """Keys that registered kinds have and ``cls`` has not.

    They are left out when a table is read: sidecars were once written with the keys of all kinds, and a recipe that
    changes the kind inherits the keys of its base.
    """
    known = {entry.name for kind in ENCODER_SPECS.values() for entry in fields(kind)}
    return frozenset(known - {entry.name for entry in fields(cls)})


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
    planted: ClassVar[tuple[str, ...]] = ("position_resize",)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.width, self.patch, self.prefix_tokens)

    @property
    def blocks(self) -> int:
        return self.depth

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.width % self.heads:
            yield f"{self.heads} heads of a width of {self.width}", "the width is a multiple of the heads"
        if max(12 * self.depth * self.width, self.grid**2) * self.width > _MAX_PARAMETERS:
            yield (
                f"more than {_MAX_PARAMETERS:,} parameters (width {self.width}, depth {self.depth}, grid {self.grid})",
                "correct width, depth or grid",
            )


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
        yield from _stage_problems(self.stage_blocks, self.stage_channels)
        if not self.stage_blocks:
            yield "no stage_blocks", "give the blocks and channels of the ResNet's stages"
        if self.patch != _PATCHES[0]:
            yield (
                f"patches of {self.patch} pixels; expected {_PATCHES[0]}",
                "the ResNet in front of the transformer ends at 1/16 resolution",
            )


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
        return _stage_problems(self.stage_blocks, self.stage_channels)


def _stage_problems(blocks: tuple[int, ...], channels: tuple[int, ...]) -> Iterable[tuple[str, str]]:
    if blocks and len(channels) < len(blocks):
        yield f"{len(blocks)} stage_blocks and {len(channels)} stage_channels", "give the channels of each stage"
    if sum(blocks) > _MAX_BLOCKS:
        yield f"{sum(blocks)} blocks in the stages", f"at most {_MAX_BLOCKS} are supported"
