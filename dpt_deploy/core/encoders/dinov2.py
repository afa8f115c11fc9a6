"""DINOv2 as data: a Vision Transformer on patches of 14 pixels, with gains of its blocks (Oquab et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from dpt_deploy.core.encoders.base import EncoderSpec, Tokens, register_encoder_spec, token_problems
from dpt_deploy.core.ranges import Amount, Channels, Positive, Range

PositionRule = Literal["offset", "size"]
FeedForward = Literal["gelu", "swiglu"]


@register_encoder_spec
@dataclass(frozen=True, kw_only=True)
class Dinov2Spec(EncoderSpec):
    """DINOv2 with a position table for ``grid`` x ``grid`` patches (37 for 518 pixels) and a leading class token.

    ``tap_norm_eps`` is the epsilon of the encoder's final norm, which the taps go through; 0 leaves them as they are.
    ``registers`` are further leading tokens, without positions.

    ``position_rule`` resizes the table to ``n`` rows, bicubically and without antialiasing. Row ``i`` is read at
    ``(i + 0.5) * grid / (n + 0.1) - 0.5`` by the original (``offset``), and at ``(i + 0.5) * grid / n - 0.5`` by
    Hugging Face (``size``). The training grid is the identity in both. A rule with antialiasing, as timm has it, is
    another one, which no published depth model was trained with.
    """

    kind: Literal["dinov2"] = "dinov2"
    width: Channels
    depth: Annotated[int, Range(1, 1024)]
    heads: Channels
    patch: Annotated[int, Range(2, 1024)] = 14
    grid: Annotated[int, Range(1, 4096)] = 37
    feed_forward: FeedForward = "gelu"
    registers: Annotated[int, Range(0, 1024)] = 0
    norm_eps: Positive = 1e-6
    tap_norm_eps: Amount = 1e-6
    position_rule: PositionRule = "offset"

    takes_any_tokens: ClassVar[bool] = True
    hidden: ClassVar[tuple[str, ...]] = ("norm_eps", "tap_norm_eps", "position_rule")

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.width, self.patch, 1 + self.registers)

    @property
    def blocks(self) -> int:
        return self.depth

    @property
    def strides(self) -> tuple[float, ...]:
        return (self.patch / 4, self.patch / 2, self.patch, 2 * self.patch)

    @property
    def size_step(self) -> int:
        return self.patch

    @property
    def feed_forward_ratio(self) -> float:
        """Width of a block's hidden layer over ``width``: both halves of it for SwiGLU, whose width is rounded to 8."""
        if self.feed_forward == "gelu":
            return 4.0
        return 2 * ((int(4 * self.width * 2 / 3) + 7) // 8 * 8) / self.width

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from token_problems(self.width, self.heads, self.depth, self.grid)
