"""All corruptions by name, and their application to an image with or without depth."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.datasets.corruptions import flat, solid
from dpt_deploy.datasets.corruptions.clean import CleanImage, Rng, as_pixels

Group = Literal["noise", "blur", "weather", "digital", "3-D"]
Damage = Callable[[CleanImage, Rng, int], Any]

SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 1  # increased when a corrupted image changes
_LEAST_KNOWN = 0.25  # share of pixels with depth below which it is too sparse


@dataclass(frozen=True)
class Corruption:
    """A corruption: its name, its group, and the function that applies it; ``needs_depth`` for those of group 3-D."""

    name: str
    group: Group
    damage: Damage

    @property
    def needs_depth(self) -> bool:
        return self.group == "3-D"


CONTROL = Corruption("blank", "digital", flat.blank)
CORRUPTIONS = {
    each.name: each
    for each in (
        Corruption("gaussian-noise", "noise", flat.gaussian_noise),
        Corruption("shot-noise", "noise", flat.shot_noise),
        Corruption("impulse-noise", "noise", flat.impulse_noise),
        Corruption("iso-noise", "noise", flat.iso_noise),
        Corruption("low-light", "noise", flat.low_light),
        Corruption("defocus-blur", "blur", flat.defocus_blur),
        Corruption("glass-blur", "blur", flat.glass_blur),
        Corruption("motion-blur", "blur", flat.motion_blur),
        Corruption("zoom-blur", "blur", flat.zoom_blur),
        Corruption("snow", "weather", flat.snow),
        Corruption("fog", "weather", flat.fog),
        Corruption("brightness", "weather", flat.brightness),
        Corruption("contrast", "digital", flat.contrast),
        Corruption("pixelate", "digital", flat.pixelate),
        Corruption("jpeg", "digital", flat.jpeg),
        Corruption("colour-quant", "digital", flat.colour_quant),
        Corruption("fog-3d", "3-D", solid.fog_3d),
        Corruption("near-focus", "3-D", solid.near_focus),
        Corruption("far-focus", "3-D", solid.far_focus),
        Corruption("xy-motion", "3-D", solid.xy_motion),
        Corruption("z-motion", "3-D", solid.z_motion),
        Corruption("flash", "3-D", solid.flash),
    )
}
GROUPS = tuple(dict.fromkeys(each.group for each in CORRUPTIONS.values()))


def find_corruptions(names: Sequence[str]) -> tuple[Corruption, ...]:
    """Return the corruptions of ``names``: names, groups in small letters, or ``all``.

    Raises:
        UsageError: a name is unknown.
    """
    found: dict[str, Corruption] = {}
    for name in names:
        members = [each for each in CORRUPTIONS.values() if name in (each.name, each.group.lower(), "all")]
        if not members:
            raise UsageError(
                f"corruption {name!r} is unknown; expected one or more of {', '.join(CORRUPTIONS)}",
                hint=f"a group also works: {', '.join(map(str.lower, GROUPS))}, or all",
            )
        found |= {each.name: each for each in members}
    return tuple(found.values())


def check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Return the severities in order, each once.

    Raises:
        UsageError: one is outside 1 to 5, or there is none.
    """
    wrong = [each for each in severities if each not in SEVERITIES]
    if wrong or not severities:
        raise UsageError(
            f"severity {wrong[0] if wrong else 'list is empty'}; expected numbers from 1 to 5",
            hint="for example --severity 1-5 or --severity 1,3,5",
        )
    return tuple(sorted(set(severities)))


def corrupt(
    image: NDArray[np.uint8],
    corruption: Corruption,
    severity: int,
    *,
    depth: NDArray[np.float32] | None = None,
    seed: int = 0,
    name: str = "",
) -> NDArray[np.uint8]:
    """Return ``image``, RGB (H, W, 3), damaged; with severity 0 it is returned as it is.

    ``depth`` (H, W) is the ground truth in metres, 0 where it is unknown. Unknown pixels count as the farthest ones.
    The random numbers follow from ``seed``, ``name`` (of the image) and the corruption; all severities share them.

    Raises:
        UsageError: the severity is outside 0 to 5.
        BadFileError: the corruption needs depth, and there is none or too little.
    """
    if severity == 0:
        return image
    check_severities((severity,))
    distance = _dense(depth, corruption, name) if corruption.needs_depth else None
    clean = CleanImage(as_pixels(image / np.float32(255)), distance)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(corruption.name.encode())])
    damaged = as_pixels(corruption.damage(clean, rng, severity))
    return np.rint(damaged * 255).astype(np.uint8)


def _dense(depth: NDArray[np.float32] | None, corruption: Corruption, name: str) -> NDArray[np.float32]:
    known = np.zeros(1, bool) if depth is None else np.isfinite(depth) & (depth > 0)
    share = float(known.mean())
    if depth is None or share < _LEAST_KNOWN:
        raise BadFileError(
            f"{corruption.name} needs dense depth; {100 * share:.0f} % of {name or 'the image'} has any",
            hint="choose corruptions without depth, or images with dense ground truth",
        )
    return np.where(known, depth, depth[known].max()).astype(np.float32)
