"""Random surface materials: colours, patterns, gloss (NumPy only)."""

from __future__ import annotations

from typing import cast

import numpy as np

from dpt_deploy.scenes.texture import LATTICE, PATTERNS, Material, Pattern


def random_material(
    rng: np.random.Generator,
    scale: float,
    *,
    calm: bool = False,
    pattern: Pattern | None = None,
    hue: np.ndarray | None = None,
) -> Material:
    """Draw a material whose pattern has a period of ``scale`` metres.

    A ``calm`` material has at most faint structure, like painted walls and skin. ``pattern`` and ``hue`` (linear RGB)
    replace random choices.
    """
    first = np.clip((_hue(rng) if hue is None else hue) * rng.uniform(0.5, 1.5), 0.02, 0.95)
    if calm and pattern is None:
        second = np.clip(first * rng.uniform(0.8, 1.2), 0, 1)
        chosen = _one_of(rng, ("plain", "noise"))
    else:
        second = _hue(rng) if hue is None else first * rng.uniform(0.3, 0.9)
        chosen = pattern or _one_of(rng, PATTERNS)
    gloss = rng.uniform(0, 0.6) if rng.random() < 0.3 else 0.0
    roughness = rng.uniform(0.02, 0.3)
    return Material(chosen, first, second, scale, rng.uniform(0, np.pi), roughness, gloss, _lattice(rng))


def building_material(rng: np.random.Generator) -> Material:
    """Draw a material of bricks, windows or plaster."""
    return random_material(rng, rng.uniform(0.6, 3), pattern=_one_of(rng, ("bricks", "checker", "stripes", "noise")))


def random_sky(rng: np.random.Generator) -> Material:
    """Draw a blue or grey sky with clouds of the ``second`` colour."""
    blue = np.array([0.25, 0.45, 0.85]) * rng.uniform(0.7, 1.2)
    grey = np.full(3, rng.uniform(0.5, 0.95))
    first = blue if rng.random() < 0.6 else grey * rng.uniform(0.8, 1.0)
    return Material("noise", first.clip(0, 1), grey, rng.uniform(0.2, 0.8), 0.0, 0.0, 0.0, _lattice(rng))


def _one_of(rng: np.random.Generator, patterns: tuple[Pattern, ...]) -> Pattern:
    return cast(Pattern, str(rng.choice(patterns)))


def _hue(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour: usually muted, as of real things, sometimes strong."""
    grey, colour = rng.uniform(0.05, 0.9), rng.uniform(0, 1, 3)
    strength = rng.choice([0.15, 0.4, 0.9], p=[0.5, 0.3, 0.2])
    return np.asarray(grey + strength * (colour - 0.5)).clip(0.02, 0.95)


def _lattice(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (LATTICE, LATTICE)).astype(np.float32)
