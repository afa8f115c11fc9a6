"""Optimisation profiles of an engine, laid out from sizes and batches.

One wide profile would be tuned for one of its shapes only. Narrow profiles are each tuned for their own: every size has
one for batch 1, and one for larger batches.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import Profile, Shape, SizeRange

MOST = 24  # profiles: each is tuned, stored and warmed up separately


def lay_out_profiles(ranges: Sequence[SizeRange], batch: int, *, static: bool = False) -> tuple[Profile, ...]:
    """Plan profiles for every size of ``ranges`` in batches from 1 to ``batch``, in the given order.

    Each is tuned for its largest shape. A ``static`` graph has only the shape that it was exported for.

    Raises:
        UsageError: no size, or more profiles than an engine should have.
    """
    if not ranges:
        raise UsageError("no size is given", hint="for example --res 384,512x672")
    batches = [(1, 1)] if batch == 1 or static else [(1, 1), (2, batch)]
    profiles = tuple(_profile(entry, low, high) for entry in ranges for low, high in batches)
    if len(profiles) > MOST:
        raise UsageError(
            f"{len(ranges)} sizes in {len(batches)} kinds of batch make {len(profiles)} profiles; at most {MOST} fit",
            hint="give a range instead, for example --res 256..512, or build several engines",
        )
    return profiles


def _profile(sizes: SizeRange, low: int, high: int) -> Profile:
    largest: Shape = (high, sizes.high.height, sizes.high.width)
    return Profile((low, sizes.low.height, sizes.low.width), largest, largest)
