"""Losses of an attack: the network's own error, as a differentiable function of the image. Needs PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.datasets.base import Sample
from dpt_deploy.imaging.rules import network_size

with extra("export", purpose="attacking a model"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

_FLAT = 1e-12


class WhiteBox:
    """A network with its image rule inside: from an image (1, 3, H, W) in 0..1 to one of its raw outputs.

    ``output`` is the place of that output if the network has several. The resize is the bicubic one of
    :mod:`dpt_deploy.imaging.rules`, differentiated by PyTorch.
    """

    def __init__(self, network: nn.Module, rule: ImageSpec, stride: int, *, output: int = 0) -> None:
        self._network, self._rule, self._stride = network.eval().requires_grad_(False), rule, stride
        self._output = output

    def prepare(self, image: Tensor) -> Tensor:
        """The network's input (1, 3, h, w) of an image."""
        size = network_size(image.shape[2], image.shape[3], self._rule, self._stride)
        if image.shape[2:] != (size.height, size.width):
            image = F.interpolate(image, (size.height, size.width), mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(each)[None, :, None, None] for each in (self._rule.mean, self._rule.std))
        return (image - mean) / std

    def __call__(self, image: Tensor) -> Tensor:
        found = self._network(self.prepare(image))
        output: Tensor = found[self._output] if isinstance(found, tuple) else found
        return output


def depth_loss(output: Tensor, sample: Sample, *, metric: bool, flip: bool) -> Tensor:
    """Relative error of a depth output (1, h, w) against the truth, or with ``flip`` minus that against its mirror.

    Inverse depth is aligned by least squares first (MiDaS Eq. 2-4), within the gradient; metres are not.
    """
    if sample.depth is None:
        raise ValueError(f"{sample.name} has no depth")
    valid = sample.valid & (sample.depth > 0)
    depth, valid = (sample.depth[:, ::-1], valid[:, ::-1]) if flip else (sample.depth, valid)
    known = torch.from_numpy(np.ascontiguousarray(valid))
    predicted = _resized(output[None], Size(*valid.shape), "bilinear")[0, 0][known]
    truth = torch.from_numpy(np.ascontiguousarray(depth, np.float32))[known]
    if metric:
        error = ((predicted - truth).abs() / truth).mean()
    else:
        inverse = 1 / truth
        centred, wanted = predicted - predicted.mean(), inverse - inverse.mean()
        scale = (centred * wanted).sum() / centred.square().sum().clamp_min(_FLAT)
        error = ((scale * centred - wanted).abs() / inverse.mean()).mean()
    return -error if flip else error


def label_loss(output: Tensor, sample: Sample, *, target: int | None) -> Tensor:
    """Cross-entropy of logits (1, classes, h, w) with the labels; minus that with the 1-based class ``target``."""
    if sample.labels is None:
        raise ValueError(f"{sample.name} has no labels")
    logits = _resized(output, Size(*sample.labels.shape), "bilinear")
    known = sample.labels > 0
    labels = torch.from_numpy(np.where(known, sample.labels.astype(np.int64) - 1, -1))[None]
    if target is None:
        return F.cross_entropy(logits, labels, ignore_index=-1)
    return -F.cross_entropy(logits, torch.where(labels >= 0, target - 1, labels), ignore_index=-1)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """An image (H, W, 3) as (1, 3, H, W) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


def _resized(values: Tensor, size: Size, mode: str) -> Tensor:
    return F.interpolate(values, (size.height, size.width), mode=mode, align_corners=False)
