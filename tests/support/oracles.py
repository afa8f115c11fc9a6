"""Quantities from their definitions: short formulas, independent of the code that they check."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpt_deploy.core.spec import ImageSpec

_erf = np.vectorize(math.erf)


def gelu(x: np.ndarray) -> np.ndarray:
    """Exact GELU: x times the normal distribution function."""
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def read_ignore(tokens: np.ndarray, leading: int) -> np.ndarray:
    """Paper Eq. 2."""
    return np.stack([image[leading:] for image in tokens])


def read_add(tokens: np.ndarray, leading: int) -> np.ndarray:
    """Paper Eq. 3; with two leading tokens, half of each."""
    readout = sum(tokens[:, i] for i in range(leading)) / leading
    return np.stack([image[leading:] + extra for image, extra in zip(tokens, readout, strict=True)])


def read_project(tokens: np.ndarray, leading: int, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Paper Eq. 4, token by token; the first leading token is the read-out, whatever follows it."""
    return np.array([[gelu(weight @ np.r_[token, image[0]] + bias) for token in image[leading:]] for image in tokens])


def bilinear(grid: np.ndarray, height: int, width: int, *, align_corners: bool) -> np.ndarray:
    """A map (h, w, ...) sampled at ``height`` x ``width`` points, borders repeated; no antialiasing."""

    def positions(length: int, target: int) -> np.ndarray:
        if align_corners:
            return np.arange(target) * ((length - 1) / (target - 1) if target > 1 else 0.0)
        return np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)

    def along(values: np.ndarray, target: int) -> np.ndarray:
        where = positions(len(values), target)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, len(values) - 1)
        share = (where - low).reshape(-1, *[1] * (values.ndim - 1))
        return values[low] * (1 - share) + values[high] * share

    return along(along(grid, height).swapaxes(0, 1), width).swapaxes(0, 1)


def residual_unit(x: Tensor, conv1: nn.Conv2d, conv2: nn.Conv2d, *, in_place: bool) -> Tensor:
    """A residual unit around literal ReLU modules: working in place, the first one changes the shortcut too."""
    x = x.clone()
    inner = conv2(nn.ReLU()(conv1(nn.ReLU(inplace=in_place)(x))))
    return inner + x


def standardised(weight: np.ndarray, form: str) -> np.ndarray:
    """Weight standardisation per output channel: ``sqrt`` of timm since 0.4.12, ``sum`` of timm 0.4.5."""
    flat = weight.astype(np.float64).reshape(len(weight), -1)
    mean, variance = flat.mean(1, keepdims=True), flat.var(1, keepdims=True)
    deviation = np.sqrt(variance + 1e-8) if form == "sqrt" else np.sqrt(variance) + 1e-5
    return ((flat - mean) / deviation).reshape(weight.shape)


def same_padded(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """TensorFlow's SAME: pad to ceil(size / stride) outputs, the odd pixel below and to the right."""

    def pads(length: int) -> tuple[int, int]:
        total = max(0, (math.ceil(length / stride) - 1) * stride + kernel - length)
        return total // 2, total - total // 2

    return F.pad(x, (*pads(x.shape[-1]), *pads(x.shape[-2])), value=value)


def metric_depth(y: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Metres from inverse depth, in float64."""
    return 1.0 / np.maximum(scale * y.astype(np.float64) + shift, 1e-8)


def network_sides(height: int, width: int, spec: ImageSpec, stride: int = 32) -> tuple[int, int]:
    """The original's resize rule: one factor for both axes, each side then rounded to a multiple of the stride.

    Without the aspect, each axis has its own factor, and so the side that the rule states.
    """
    if not spec.keep_aspect:
        return tuple(int(np.round(side / stride)) * stride for side in (spec.height, spec.width))
    factors = (spec.height / height, spec.width / width)
    factor = {
        "minimal": min(factors, key=lambda f: abs(1 - f)),
        "lower_bound": max(factors),
        "upper_bound": min(factors),
    }[spec.resize]
    sides = [int(np.round(factor * side / stride)) * stride for side in (height, width)]
    for axis, (side, bound) in enumerate(((height, spec.height), (width, spec.width))):
        if spec.resize == "lower_bound" and sides[axis] < bound:
            sides[axis] = math.ceil(factor * side / stride) * stride
        if spec.resize == "upper_bound" and sides[axis] > bound:
            sides[axis] = math.floor(factor * side / stride) * stride
    return sides[0], sides[1]


def original_input(rgb: np.ndarray, spec: ImageSpec) -> Tensor:
    """Bytes (H, W, 3) to (1, 3, h, w) with OpenCV, in the order of the original scripts."""
    height, width = network_sides(*rgb.shape[:2], spec)
    image = cv2.resize(rgb / 255.0, (width, height), interpolation=cv2.INTER_CUBIC)
    image = (image - np.array(spec.mean)) / np.array(spec.std)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32))[None]


def original_depth(model: nn.Module, rgb: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """The original depth script from image to map (H, W)."""
    with torch.no_grad():
        output = model(original_input(rgb, spec))[:, None]
        return F.interpolate(output, size=rgb.shape[:2], mode="bicubic", align_corners=False)[0, 0].numpy()


def original_scores(model: nn.Module, rgb: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """The original segmentation script up to the scores (classes, H, W) whose argmax + 1 is the label."""
    with torch.no_grad():
        output = model(original_input(rgb, spec))
        return F.interpolate(output, size=rgb.shape[:2], mode="bicubic", align_corners=False)[0].numpy()
