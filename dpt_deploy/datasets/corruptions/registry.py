"""All corruptions by name, and their application to an image with or without depth."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.corruptions import flat, moving, solid
from dpt_deploy.datasets.corruptions.clean import CleanImage, Rng, as_pixels
from dpt_deploy.datasets.corruptions.frost import frost
from dpt_deploy.datasets.corruptions.moving import Sources

Group = Literal["noise", "blur", "weather", "digital", "view", "3-D"]
Damage = Callable[[CleanImage, Rng, int], Any]

SEVERITIES = (1, 2, 3, 4, 5)
VERSION = 1  # increased when a corrupted image changes
_LEAST_KNOWN = 0.25  # share of pixels with depth below which it is too sparse


@dataclass(frozen=True)
class Corruption:
    """A corruption: its name, its group, and the function that applies it; ``needs_depth`` for those of group 3-D.

    ``sources`` is the movement of those that move pixels: :func:`corrupt_sample` moves the ground truth with them.
    """

    name: str
    group: Group
    damage: Damage
    sources: Sources | None = None

    @property
    def needs_depth(self) -> bool:
        return self.group == "3-D"


def _moving(name: str, group: Group, sources: Sources) -> Corruption:
    return Corruption(name, group, moving.shown(sources), sources)


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
        Corruption("frost", "weather", frost),
        Corruption("fog", "weather", flat.fog),
        Corruption("brightness", "weather", flat.brightness),
        Corruption("contrast", "digital", flat.contrast),
        _moving("elastic-transform", "digital", moving.elastic_transform),
        Corruption("pixelate", "digital", flat.pixelate),
        Corruption("jpeg", "digital", flat.jpeg),
        Corruption("colour-quant", "digital", flat.colour_quant),
        _moving("camera-roll", "view", moving.camera_roll),
        _moving("field-of-view", "view", moving.field_of_view),
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

    Some corruptions move pixels: to compare with the ground truth afterwards, use :func:`corrupt_sample`.

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
    damaged = as_pixels(corruption.damage(clean, _generator(corruption, seed, name), severity))
    return np.rint(damaged * 255).astype(np.uint8)


def corrupt_sample(sample: Sample, corruption: Corruption, severity: int, *, seed: int = 0) -> Sample:
    """Return ``sample`` with its image damaged and, if the corruption moves pixels, its ground truth moved as well.

    Raises:
        UsageError: the severity is outside 0 to 5.
        BadFileError: the corruption needs depth, and there is none or too little; or no truth is left in the image.
    """
    if severity == 0:
        return sample
    image = corrupt(sample.image, corruption, severity, depth=sample.depth, seed=seed, name=sample.name)
    if corruption.sources is None:
        return replace(sample, image=image)
    clean = CleanImage(as_pixels(sample.image / np.float32(255)))
    field = corruption.sources(clean, _generator(corruption, seed, sample.name), severity)
    found = moving.moved_truth(replace(sample, image=image), field)
    if not found.valid.any():
        raise BadFileError(
            f"{corruption.name} {severity} moves all ground truth out of {sample.name}; expected some to be left",
            hint="choose a lower severity, or images with truth near their centre",
        )
    return found


def _generator(corruption: Corruption, seed: int, name: str) -> Rng:
    return np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(corruption.name.encode())])


def _dense(depth: NDArray[np.float32] | None, corruption: Corruption, name: str) -> NDArray[np.float32]:
    known = np.zeros(1, bool) if depth is None else np.isfinite(depth) & (depth > 0)
    share = float(known.mean())
    if depth is None or share < _LEAST_KNOWN:
        raise BadFileError(
            f"{corruption.name} needs dense depth; {100 * share:.0f} % of {name or 'the image'} has any",
            hint="choose corruptions without depth, or images with dense ground truth",
        )
    return np.where(known, depth, depth[known].max()).astype(np.float32)
