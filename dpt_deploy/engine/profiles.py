"""From the sizes and batches that are wanted to the optimisation profiles of an engine.

A kernel chosen for one wide profile must serve its largest shape, and is tuned for one of them. Narrow profiles are
tuned each for its own: one a size, and one a batch of 1 beside that of the larger batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import Profile, ProfileCost, Shape, SizeRange
from dpt_deploy.core.size import Size

MOST = 24  # profiles: every one is planned, stored and warmed up by itself


def plan_profiles(ranges: Sequence[SizeRange], batch: int, *, static: bool = False) -> tuple[Profile, ...]:
    """Profiles for every size of ``ranges`` in batches from 1 to ``batch``, in the order asked for.

    Each is tuned for its largest shape. A ``static`` graph has the one shape that it was exported for.

    Raises:
        UsageError: no size at all, or more profiles than an engine should have.
    """
    if not ranges:
        raise UsageError("no size is given", hint="for example --res 384,512x672")
    batches = [(1, 1)] if batch == 1 or static else [(1, 1), (2, batch)]
    profiles = tuple(_profile(entry, low, high) for entry in ranges for low, high in batches)
    if len(profiles) > MOST:
        raise UsageError(
            f"{len(ranges)} sizes in {len(batches)} kinds of batch make {len(profiles)} profiles; at most {MOST}",
            hint="give a range instead, for example --res 256..512, or build several engines",
        )
    return profiles


def wide_profile(profiles: Sequence[Profile]) -> Profile:
    """One profile around all of them, tuned for its largest shape as each of them is for its own."""
    lows = zip(*(profile.low for profile in profiles), strict=True)
    highs = zip(*(profile.high for profile in profiles), strict=True)
    low_batch, low_height, low_width = map(min, lows)
    batch, height, width = map(max, highs)
    return Profile((low_batch, low_height, low_width), (batch, height, width), (batch, height, width))


def costs(
    profiles: Sequence[Profile], activations: Callable[[Size, int], int], operations: Callable[[Size, int], int]
) -> list[ProfileCost]:
    """What each profile costs, as the graph's own accounts tell for ``(size, batch)``."""
    found = []
    for profile in profiles:
        batch, height, width = profile.high
        size = Size(height, width)
        found.append(ProfileCost(profile, activations(size, batch), operations(size, batch)))
    return found


def _profile(sizes: SizeRange, low: int, high: int) -> Profile:
    largest: Shape = (high, sizes.high.height, sizes.high.width)
    return Profile((low, sizes.low.height, sizes.low.width), largest, largest)
