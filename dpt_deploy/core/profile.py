"""Optimisation profiles of an engine, and the sizes and ranges that users ask for.

TensorRT tunes an engine for the shapes of its profiles and rejects all others. A profile is a range of shapes with one
that it is tuned for; the runner picks the narrowest profile that takes the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.ranges import MAX_BATCH, Measured, Range, Side
from dpt_deploy.core.size import Size, check_size, parse_size
from dpt_deploy.core.spec import TensorSpec

Shape = tuple[Annotated[int, Range(1, MAX_BATCH)], Side, Side]  # (batch, height, width)


@dataclass(frozen=True)
class SizeRange:
    """Image sizes from ``low`` to ``high``, both included; one exact size if they are equal."""

    low: Size
    high: Size

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


@dataclass(frozen=True)
class Profile:
    """Shapes (batch, height, width) from ``low`` to ``high``; the engine is tuned for ``best``."""

    low: Shape
    best: Shape
    high: Shape

    def takes(self, batch: int, size: Size) -> bool:
        """Return True if ``batch`` images of ``size`` lie inside."""
        shape = (batch, size.height, size.width)
        return all(low <= value <= high for low, value, high in zip(self.low, shape, self.high, strict=True))

    @property
    def pixels(self) -> int:
        """Number of pixels of the largest shape, including the batch."""
        batch, height, width = self.high
        return batch * height * width

    def __str__(self) -> str:
        sizes = SizeRange(Size(*self.low[1:]), Size(*self.high[1:]))
        batch = str(self.low[0]) if self.low[0] == self.high[0] else f"{self.low[0]}..{self.high[0]}"
        return f"{sizes} batch {batch}"


def largest_bytes(spec: TensorSpec, profiles: Sequence[Profile]) -> int:
    """Return the bytes of an input or output at the largest shape.

    Batch, height and width are either all dynamic or all fixed.
    """
    dynamic = any(isinstance(dim, str) for dim in spec.shape)
    pixels = max(profile.pixels for profile in profiles) if dynamic else 1
    return math.prod(dim for dim in spec.shape if isinstance(dim, int)) * pixels * np.dtype(spec.dtype).itemsize


@dataclass(frozen=True)
class ProfileCost:
    """Predicted cost of one profile at its largest shape: device memory for activations, and operations."""

    profile: Profile
    activation_bytes: int
    operations: int


@dataclass(frozen=True)
class ProfileTime:
    """Measured seconds of one profile at its largest shape, between arrays on the GPU.

    Attributes:
        profile: the profile.
        first: the first run of a new runner, which creates the context and compiles kernels.
        steady: a run after others of the same profile: median and 95 % interval.
        switch: extra time of a run right after one of another profile, difference of medians; None: no other profile.
    """

    profile: Profile
    first: Measured
    steady: tuple[Measured, Measured, Measured]
    switch: Measured | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "first_seconds": self.first,
            "steady_seconds": self.steady,
            "switch_seconds": self.switch,
        }


def choose_profile(profiles: Sequence[Profile], batch: int, size: Size) -> int:
    """Return the index of the narrowest profile that takes ``batch`` images of ``size``.

    Raises:
        UsageError: no profile takes them; the message lists the profiles.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.takes(batch, size)]
    if not fitting:
        raise UsageError(
            f"the engine takes no batch of {batch} at {size}; its profiles: {'; '.join(map(str, profiles))}",
            hint="use a size and batch of these profiles, or build another engine: dpt-deploy build --res … --batch …",
        )
    return min(fitting, key=lambda index: profiles[index].pixels)


def parse_ranges(text: str, *, stride: int = 32) -> tuple[SizeRange, ...]:
    """Parse ``"384,384x672,256..512"``: exact sizes and ranges; duplicates are dropped, the order is kept.

    Raises:
        UsageError: invalid syntax, not a multiple of ``stride``, or a range whose first size is larger.
    """
    return tuple(dict.fromkeys(_range(part.strip(), stride) for part in text.split(",") if part.strip()))


def check_ranges(ranges: Sequence[SizeRange], *, stride: int) -> None:
    """Raise :class:`UsageError` unless both ends of every range are legal sizes."""
    for entry in ranges:
        check_size(entry.low, stride=stride)
        check_size(entry.high, stride=stride)


def _range(text: str, stride: int) -> SizeRange:
    first, dots, second = text.partition("..")
    low = parse_size(first, stride=stride)
    high = parse_size(second, stride=stride) if dots else low
    if low.height > high.height or low.width > high.width:
        raise UsageError(
            f"range {text!r} runs backwards: {low} is not within {high} on both sides",
            hint="the smaller size comes first, for example 256..512 or 256x320..512x640",
        )
    return SizeRange(low, high)
