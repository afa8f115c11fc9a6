"""The interface that every kind of encoder offers as data, and the table of the kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

EncoderFamily = Literal["transformer", "convolutional"]
Tap = int | str  # a transformer block (0-based), or "stage0" … for the feature map of a stage

PAPER_STRIDES = (4.0, 8.0, 16.0, 32.0)  # pixels between neighbours in the four fused maps, finest first (Figure 1)
MAX_BLOCKS = 1000
MAX_PARAMETERS = 1 << 33  # of the blocks, or of the position tables: several times the largest published encoders


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

    takes_any_tokens: ClassVar[bool] = False  # its blocks take tokens in any number: positions are added before them

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

    def map_of(self, _block: int, /) -> tuple[float, int] | None:
        """Stride in the image, in pixels, and channels of the map that a block returns; None if it returns tokens."""
        return None

    @property
    def strides(self) -> tuple[float, ...]:
        """Stride in the image, in pixels, of the maps that the decoder fuses, finest first: four, or three."""
        return PAPER_STRIDES

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The only image size (H, W) that the network takes; None where it takes every multiple of the stride."""
        return None

    @property
    def size_step(self) -> int:
        """Number of pixels of which the sides of its images are multiples; the recipe's ``stride`` is one of it."""
        return 1

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
        if not isinstance(kind, str) or kind not in ENCODER_SPECS:
            found = "missing" if kind is None else repr(kind)
            raise ValueError(f"kind is {found}; expected {' or '.join(sorted(ENCODER_SPECS))}")
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


def stage_of(block: int, blocks: tuple[int, ...]) -> int:
    """The stage of the block ``block``, counted from 0 through stages of ``blocks`` blocks."""
    return next(stage for stage in range(len(blocks)) if block < sum(blocks[: stage + 1]))


def stage_problems(blocks: tuple[int, ...], channels: tuple[int, ...]) -> Iterable[tuple[str, str]]:
    """List values of a convolutional network's stages that none can be built from, each with a hint."""
    if blocks and len(channels) < len(blocks):
        yield f"{len(blocks)} stage_blocks and {len(channels)} stage_channels", "give the channels of each stage"
    if sum(blocks) > MAX_BLOCKS:
        yield f"{sum(blocks)} blocks in the stages", f"at most {MAX_BLOCKS} are supported"


def token_problems(width: int, heads: int, depth: int, grid: int) -> Iterable[tuple[str, str]]:
    """List values of a transformer with ``grid`` x ``grid`` positions that none can be built from, each with a hint."""
    if width % heads:
        yield f"{heads} heads of a width of {width}", "the width is a multiple of the heads"
    if max(12 * depth * width, grid**2) * width > MAX_PARAMETERS:
        yield (
            f"more than {MAX_PARAMETERS:,} parameters (width {width}, depth {depth}, grid {grid})",
            "correct width, depth or grid",
        )
