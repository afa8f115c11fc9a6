"""Test images with smooth gradients, hard edges and texture, fixed by a seed."""

from __future__ import annotations

import numpy as np


def structured_images(batch: int, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Make uint8 RGB images (B, H, W, 3). They are not symmetric in any way, so a swapped axis cannot hide."""
    return np.stack([_image(height, width, np.random.default_rng((seed, index))) for index in range(batch)])


def _image(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    y = np.linspace(0.0, 1.0, height)[:, None, None]
    x = np.linspace(0.0, 1.0, width)[None, :, None]
    tilt, phase, frequency = rng.uniform(-1, 1, (2, 3)), rng.uniform(0, 6.28, 3), rng.uniform(2, 9, (2, 3))
    image = (
        0.5 + 0.25 * (tilt[0] * y + tilt[1] * x) + 0.15 * np.sin(6.28 * (frequency[0] * y + frequency[1] * x) + phase)
    )
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        bottom, right = top + rng.integers(1, 1 + height // 2), left + rng.integers(1, 1 + width // 2)
        image[top:bottom, left:right] = 0.5 * image[top:bottom, left:right] + 0.5 * rng.uniform(0, 1, 3)
    image += rng.normal(0, 0.05, image.shape)
    return np.asarray(np.clip(np.rint(image * 255), 0, 255), dtype=np.uint8)


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Normalise bytes (B, H, W, 3) to the network's float32 (B, 3, H, W), computed in float64."""
    values = (images.astype(np.float64) / 255.0 - np.asarray(mean)) / np.asarray(std)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)
