"""Image sizes: parsing, checking against a model's stride, and the nearest legal ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dpt_deploy.core.errors import UsageError


@dataclass(frozen=True, order=True)
class Size:
    """An image size in pixels, height first."""

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"


_SIZE = re.compile(r"(\d{1,9})(?:x(\d{1,9}))?")


def parse_size(text: str, *, stride: int = 32) -> Size:
    """Parse ``"384"`` as 384x384 and ``"384x672"`` as height x width; ``stride=1`` checks the syntax alone.

    Raises:
        UsageError: not a size, or not a positive multiple of ``stride``; the hint names the nearest legal sizes.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"size {text!r} is not understood; expected N or HEIGHTxWIDTH",
            hint="for example --res 384 or --res 384x672",
        )
    height = int(match[1])
    size = Size(height, int(match[2] or height))
    if stride > 1:
        check_size(size, stride=stride)
    return size


def check_size(size: Size, *, stride: int) -> None:
    """Raise :class:`UsageError` unless both sides are positive multiples of ``stride``."""
    if size.height > 0 and size.width > 0 and size.height % stride == 0 and size.width % stride == 0:
        return
    low, high = _nearest_legal(size, stride)
    choices = f"{low}" if low == high else f"{low} or {high}"
    raise UsageError(
        f"size {size} is not a multiple of {stride} on both sides (height x width)",
        hint=f"the nearest legal sizes: {choices}",
    )


def _nearest_legal(size: Size, stride: int) -> tuple[Size, Size]:
    def floor(n: int) -> int:
        return max(stride, n // stride * stride)

    def ceil(n: int) -> int:
        return max(stride, -(-n // stride) * stride)

    return Size(floor(size.height), floor(size.width)), Size(ceil(size.height), ceil(size.width))


def parse_sizes(text: str, *, stride: int = 32) -> tuple[Size, ...]:
    """Parse a comma-separated list of sizes; duplicates are dropped, the order is kept."""
    return tuple(dict.fromkeys(parse_size(part, stride=stride) for part in text.split(",") if part.strip()))


def parse_batches(text: str) -> tuple[int, ...]:
    """Parse ``"1,3"`` as positive integers; duplicates are dropped, the order is kept.

    Raises:
        UsageError: a part is not a positive integer.
    """
    batches = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isdecimal() or len(part) > 9 or int(part) < 1:
            raise UsageError(f"batch {part!r} is not a positive integer", hint="for example --batch 1,3")
        batches.append(int(part))
    return tuple(dict.fromkeys(batches))
