"""Filters that several corruptions share: Gaussian, disk, line, zoom and fractal noise. Needs OpenCV."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.corruptions.clean import Pixels, Rng

with extra("images", purpose="corrupting images"):
    import cv2

_LEAST = 0.1  # pixels; a smaller blur is none
_LONGEST = 255  # taps of a kernel; a wider Gaussian is computed on a smaller image


def gaussian(pixels: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian of ``sigma`` pixels; the border is replicated."""
    if sigma < _LEAST:
        return pixels
    length = 2 * math.ceil(3 * sigma) + 1
    if length > _LONGEST:
        return _enlarged(gaussian(_halved(pixels), sigma / 2), pixels.shape[:2])
    return _filtered(cv2.GaussianBlur(pixels, (length, length), sigma, borderType=cv2.BORDER_REPLICATE))


def disk(pixels: Pixels, radius: float, alias: float) -> Pixels:
    """Blur with a disk of ``radius`` pixels whose edge is softened by a Gaussian of ``alias`` pixels."""
    reach = math.ceil(radius + 3 * alias)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    kernel = gaussian(kernel, alias)
    return _convolved(pixels, kernel)


def line(pixels: Pixels, length: float, angle: float, sigma: float = math.inf) -> Pixels:
    """Blur along a line of ``length`` pixels at ``angle`` radians; ``sigma`` weakens its ends (infinite: evenly)."""
    if length < 1:
        return pixels
    reach = math.ceil(length / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    places = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    rows, columns = reach + places * math.sin(angle), reach + places * math.cos(angle)
    np.add.at(kernel, (np.rint(rows).astype(int), np.rint(columns).astype(int)), weights.astype(np.float32))
    return _convolved(pixels, kernel)


def zoom(pixels: Pixels, factor: float) -> Pixels:
    """Enlarge about the centre by ``factor``, at the same size."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
    return _filtered(
        cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def mean_zoom(pixels: Pixels, largest: float, step: float) -> Pixels:
    """Mean of the image and its enlargements up to ``largest`` in steps of ``step``."""
    factors = np.arange(1, largest + step / 2, step)
    return _filtered(np.mean([zoom(pixels, float(factor)) for factor in factors], axis=0, dtype=np.float32))


def fractal(shape: tuple[int, int], decay: float, rng: Rng) -> NDArray[np.float32]:
    """Noise (H, W) in 0..1 of octaves whose strength falls by ``decay`` each: clouds."""
    found = np.zeros(shape, np.float32)
    for octave in range(1, int(math.log2(max(shape)))):
        lattice = rng.random((2**octave + 1, 2**octave + 1), np.float32) - 0.5
        found += _enlarged(lattice, shape) / np.float32(decay**octave)
    found -= found.min()
    return _filtered(found / max(float(found.max()), 1e-6))


def _convolved(pixels: Pixels, kernel: NDArray[np.float32]) -> Pixels:
    return _filtered(cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE))


def _halved(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    return _filtered(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _enlarged(pixels: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return _filtered(cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def _filtered(values: object) -> NDArray[np.float32]:
    """OpenCV's result with its type stated."""
    return np.asarray(values, np.float32)
