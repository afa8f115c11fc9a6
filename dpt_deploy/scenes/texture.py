"""Procedural materials: the colour of a surface at a point, without aliasing at any distance.

Every pattern is a sum of octaves of lattice noise or a rounded square wave. Frequencies that a pixel cannot resolve
fade out, as they would in a camera; the footprint of a pixel on the surface is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Pattern = Literal["plain", "noise", "spots", "grain", "checker", "stripes", "bricks"]
PATTERNS: tuple[Pattern, ...] = ("plain", "noise", "spots", "grain", "checker", "stripes", "bricks")

LATTICE = 64  # noise values per side; the lattice repeats
_OCTAVES = 5
_RESOLVED, _LOST = 0.25, 0.6  # cycles per pixel: fully visible below, invisible above


@dataclass(frozen=True)
class Material:
    """``first`` and ``second`` are linear RGB in [0, 1]; ``scale`` is the pattern's period in metres.

    ``roughness`` is the strength of fine noise; ``gloss`` that of a highlight.
    """

    pattern: Pattern
    first: np.ndarray
    second: np.ndarray
    scale: float
    angle: float
    roughness: float
    gloss: float
    lattice: np.ndarray  # (64, 64) noise values in [-1, 1], repeating

    def colour(self, uv: Tensor, footprint: Tensor) -> Tensor:
        """Return linear RGB (3, N) at texture coordinates (2, N) in metres, for pixels of size ``footprint`` (N,)."""
        turned = _turn(uv, self.angle) / self.scale
        footprint = footprint / self.scale
        lattice = torch.as_tensor(self.lattice, dtype=uv.dtype, device=uv.device)
        mix = (0.5 + 0.5 * _PATTERNS[self.pattern](turned, footprint, lattice)).clamp(0, 1)
        first, second = (
            torch.as_tensor(c, dtype=uv.dtype, device=uv.device)[:, None] for c in (self.first, self.second)
        )
        grain = self.roughness * fractal(turned * 2.7 + 11.0, footprint * 2.7, lattice)
        colour: Tensor = ((first + mix * (second - first)) * (1 + grain)).clamp(0, 1)
        return colour


def fractal(uv: Tensor, footprint: Tensor, lattice: Tensor, *, octaves: int = _OCTAVES) -> Tensor:
    """Sum octaves of noise with falling amplitude at (2, N): values (N,) in about [-1, 1]."""
    total = torch.zeros_like(footprint)
    for octave in range(octaves):
        frequency = 2.0**octave
        total = total + _seen(frequency * footprint) * 0.6**octave * _lattice_noise(uv * frequency + octave, lattice)
    return total


def _lattice_noise(uv: Tensor, lattice: Tensor) -> Tensor:
    """Smooth interpolation of a repeating lattice of values."""
    cell = uv.floor()
    part = uv - cell
    part = part * part * (3 - 2 * part)
    i, j = cell.long().remainder(LATTICE)
    i1, j1 = (i + 1) % LATTICE, (j + 1) % LATTICE
    u, v = part
    near = torch.lerp(lattice[i, j], lattice[i1, j], u)
    far = torch.lerp(lattice[i, j1], lattice[i1, j1], u)
    return torch.lerp(near, far, v)


def _seen(cycles: Tensor) -> Tensor:
    """Visibility of a frequency: 1 if a pixel resolves it, 0 if it averages it out."""
    return ((_LOST - cycles) / (_LOST - _RESOLVED)).clamp(0, 1)


def _square(phase: Tensor, footprint: Tensor) -> Tensor:
    """A square wave of period 1 in [-1, 1], rounded as a pixel of that footprint would."""
    sharpness = 1.0 / (6 * footprint + 0.03)
    return torch.tanh(sharpness * torch.sin(2 * torch.pi * phase)) * _seen(footprint)


def _plain(_uv: Tensor, footprint: Tensor, _lattice: Tensor) -> Tensor:
    return torch.full_like(footprint, -1.0)


def _spots(uv: Tensor, footprint: Tensor, lattice: Tensor) -> Tensor:
    return torch.tanh(6 * fractal(uv, footprint, lattice, octaves=2))


def _grain(uv: Tensor, footprint: Tensor, lattice: Tensor) -> Tensor:
    stretched = torch.stack((uv[0] * 6, uv[1] * 0.6))
    return fractal(stretched, footprint * 6, lattice)


def _checker(uv: Tensor, footprint: Tensor, _lattice: Tensor) -> Tensor:
    return _square(uv[0], footprint) * _square(uv[1], footprint)


def _stripes(uv: Tensor, footprint: Tensor, _lattice: Tensor) -> Tensor:
    return _square(uv[0], footprint)


def _bricks(uv: Tensor, footprint: Tensor, _lattice: Tensor) -> Tensor:
    row = (uv[1] * 2).floor()
    joint = torch.maximum(_joint(uv[1] * 2, footprint * 2), _joint(uv[0] + 0.5 * row.remainder(2), footprint))
    return 2 * joint - 1


def _joint(phase: Tensor, footprint: Tensor) -> Tensor:
    """1 on a thin line at every whole number, faded where a pixel is wider than it."""
    width = 0.05
    away = (phase - phase.round()).abs()
    return ((width + footprint - away) / (footprint + 0.02)).clamp(0, 1) * (width / (width + footprint))


def _turn(uv: Tensor, angle: float) -> Tensor:
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    u, v = uv
    return torch.stack((cos * u - sin * v, sin * u + cos * v))


_PATTERNS: dict[Pattern, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": _plain,
    "noise": fractal,
    "spots": _spots,
    "grain": _grain,
    "checker": _checker,
    "stripes": _stripes,
    "bricks": _bricks,
}
