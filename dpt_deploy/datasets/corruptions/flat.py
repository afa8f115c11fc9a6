"""Corruptions that need the photograph only (Hendrycks & Dietterich, "Benchmarking neural network robustness", 2019).

Each function takes the clean image, a generator and a severity from 1 to 5. The constants are those of the paper's
Apache-2.0 code for 224 pixels; lengths grow with the shorter side. Frost is in :mod:`.frost`, and what moves pixels in
:mod:`.moving`. Low light, ISO noise and colour quantisation are those of Kar et al., "3D common corruptions and data
augmentation" (CVPR 2022).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.corruptions import filters
from dpt_deploy.datasets.corruptions.clean import CleanImage, Pixels, Rng

with extra("images", purpose="corrupting images"):
    import cv2

_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_PHOTONS = (60, 25, 12, 5, 3)
_IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)
_DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, softness of the edge
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # blur, largest shift, rounds
_MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma along the line
_ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # largest factor, step
_SNOW = (  # mean and spread of flakes, enlargement, threshold, radius and sigma of their motion, share of the image
    (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))  # strength, decay of the octaves
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # shorter side over 224
_QUALITY = (25, 18, 15, 10, 7)
_DARKER = (0.6, 0.5, 0.4, 0.3, 0.2)
_LOW_PHOTONS, _LOW_NOISE = 120, 0.018
_ISO_PHOTONS, _ISO_SHARE = 25, 0.7
_BITS = (5, 4, 3, 2, 1)
_BLANK = (0.2, 0.4, 0.6, 0.8, 1.0)


def gaussian_noise(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Add the same noise to every pixel and channel."""
    return clean.pixels + _NOISE[severity - 1] * rng.standard_normal(clean.pixels.shape, np.float32)


def shot_noise(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Count photons: noise grows with the root of the brightness."""
    return _counted(clean.pixels, _PHOTONS[severity - 1], rng)


def impulse_noise(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Replace some values by 0 or 1."""
    place = rng.random(clean.pixels.shape, np.float32)
    share = _IMPULSES[severity - 1]
    return np.where(place < share / 2, np.float32(0), np.where(place < share, np.float32(1), clean.pixels))


def iso_noise(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Count few photons and add the noise of a strong amplifier."""
    strength = _ISO_SHARE * _NOISE[severity - 1]
    noise = rng.standard_normal(clean.pixels.shape, np.float32)
    return _counted(clean.pixels, _ISO_PHOTONS, rng) + strength * noise


def low_light(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Darken, count photons, and add the noise of the sensor."""
    low, high = float(clean.pixels.min()), float(clean.pixels.max())
    dark = ((clean.pixels - low) / max(high - low, 1e-6)) ** 2 * _DARKER[severity - 1]
    noise = rng.standard_normal(dark.shape, np.float32)
    return _counted(dark, _LOW_PHOTONS, rng) + _LOW_NOISE * noise


def defocus_blur(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Blur with a disk, as a lens that is out of focus everywhere."""
    radius, alias = _DEFOCUS[severity - 1]
    return filters.disk(clean.pixels, radius * clean.scale(), alias * clean.scale())


def glass_blur(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Move every pixel by a small random shift, several times, between two slight blurs.

    The original exchanges pixels one after the other; here all of them move at once.
    """
    sigma, shift, rounds = _GLASS[severity - 1]
    scale, (height, width) = clean.scale(), clean.shape
    reach = max(1, round(shift * scale))
    pixels = filters.gaussian(clean.pixels, sigma * scale)
    rows, columns = np.mgrid[:height, :width]
    for _ in range(rounds):
        moved_y, moved_x = rng.integers(-reach, reach + 1, (2, height, width))
        pixels = pixels[(rows + moved_y).clip(0, height - 1), (columns + moved_x).clip(0, width - 1)]
    return filters.gaussian(pixels, sigma * scale)


def motion_blur(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Blur along a line at an angle between -45 and 45 degrees, as a camera that moves."""
    radius, sigma = _MOTION[severity - 1]
    angle, scale = math.radians(rng.uniform(-45, 45)), clean.scale()
    return filters.line(clean.pixels, (2 * radius + 1) * scale, angle, sigma * scale)


def zoom_blur(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Average enlargements, as a camera that moves forward."""
    return filters.mean_zoom(clean.pixels, *_ZOOM[severity - 1])


def snow(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Fade the image and add flakes that fall."""
    mean, spread, enlarged, threshold, radius, sigma, share = _SNOW[severity - 1]
    scale = clean.scale()
    flakes = (mean + spread * rng.standard_normal(clean.shape, np.float32)).astype(np.float32)
    flakes = filters.zoom(flakes, enlarged * scale)
    flakes = np.clip(np.where(flakes < threshold, np.float32(0), flakes), 0, 1)
    angle = math.radians(rng.uniform(-135, -45))
    flakes = filters.line(flakes, (2 * radius + 1) * scale, angle, sigma * scale)[..., None]
    grey = clean.pixels @ np.array((0.299, 0.587, 0.114), np.float32)
    faded = share * clean.pixels + (1 - share) * np.maximum(clean.pixels, 1.5 * grey[..., None] + 0.5)
    return faded + flakes + flakes[::-1, ::-1]


def fog(clean: CleanImage, rng: Rng, severity: int) -> Any:
    """Add clouds that know nothing of depth, and restore the brightest value."""
    strength, decay = _FOG[severity - 1]
    brightest = float(clean.pixels.max())
    clouds = strength * filters.fractal(clean.shape, decay, rng)[..., None]
    return (clean.pixels + clouds) * (brightest / (brightest + strength))


def brightness(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Raise the value (the largest channel) and keep hue and saturation."""
    value = clean.pixels.max(axis=2, keepdims=True)
    raised = np.minimum(value + _BRIGHTER[severity - 1], 1)
    return np.where(value > 0, clean.pixels * (raised / np.maximum(value, 1e-6)), raised)


def contrast(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Move every value towards the mean of its channel."""
    mean = clean.pixels.mean(axis=(0, 1), keepdims=True)
    return mean + (clean.pixels - mean) * _CONTRAST[severity - 1]


def pixelate(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Reduce the resolution and repeat pixels."""
    factor, (height, width) = min(1.0, _PIXELATE[severity - 1] / clean.scale()), clean.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(clean.pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def jpeg(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Compress with JPEG and decode."""
    levels = np.rint(clean.pixels[..., ::-1] * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY[severity - 1]])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32)[..., ::-1] / 255


def colour_quant(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Keep only the highest bits of each channel."""
    dropped = 8 - _BITS[severity - 1]
    return (np.rint(clean.pixels * 255).astype(np.uint8) >> dropped << dropped).astype(np.float32) / 255


def blank(clean: CleanImage, _rng: Rng, severity: int) -> Any:
    """Fade to uniform grey, of which nothing is left to see at severity 5: the control of a study."""
    share = _BLANK[severity - 1]
    return (1 - share) * clean.pixels + share * np.float32(0.5)


def _counted(pixels: Pixels, photons: int, rng: Rng) -> Any:
    return rng.poisson(np.clip(pixels, 0, 1) * photons).astype(np.float32) / photons
