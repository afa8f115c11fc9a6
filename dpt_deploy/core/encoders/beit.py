"""BEiT as data: a Vision Transformer whose positions are relative (MiDaS 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from dpt_deploy.core.encoders.base import MAX_PARAMETERS, EncoderSpec, Tokens, register_encoder_spec
from dpt_deploy.core.ranges import Channels, Positive, Range

_PATCHES = (16, 8)  # reassembling to 1/4, 1/8, 1/16 and 1/32 is defined for those


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class BeitSpec(EncoderSpec):
    """BEiT (Bao et al., ICLR 2022) without absolute positions: each block has a table of relative ones.

    ``grid`` is the side, in patches, of the images that the tables were trained for: 24 for 384 pixels, 32 for 512.
    """

    kind: Literal["beit"] = "beit"
    width: Channels
    depth: Annotated[int, Range(1, 1024)]
    heads: Channels
    patch: Annotated[int, Range(1, 1024)] = 16
    grid: Annotated[int, Range(1, 1024)] = 24
    norm_eps: Positive = 1e-6

    hidden: ClassVar[tuple[str, ...]] = ("norm_eps",)

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.width, self.patch, prefix=1)

    @property
    def blocks(self) -> int:
        return self.depth

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.width % self.heads:
            yield f"{self.heads} heads of a width of {self.width}", "the width is a multiple of the heads"
        if self.patch not in _PATCHES:
            yield (
                f"patches of {self.patch} pixels; expected {' or '.join(map(str, _PATCHES))}",
                "reassembling to 1/4, 1/8, 1/16 and 1/32 is defined for those",
            )
        if self.depth * (12 * self.width**2 + 4 * self.grid**2 * self.heads) > MAX_PARAMETERS:
            yield f"more than {MAX_PARAMETERS:,} parameters", "correct width, depth, heads or grid"
