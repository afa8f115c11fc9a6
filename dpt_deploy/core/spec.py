"""Description of a model, its input image and its tensors, as frozen data.

A :class:`ModelSpec` describes one Dense Prediction Transformer of Ranftl et al. (ICCV 2021), or the convolutional
MiDaS network it is compared with, closely enough to build it (§3 and Tables 6-8 of the paper).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from dpt_deploy.core.encoders import EncoderSpec, Tap

ModelTask = Literal["depth", "segmentation"]
Readout = Literal["ignore", "add", "project"]
Decoder = Literal["dpt", "midas21"]
ResizeRule = Literal["minimal", "lower_bound", "upper_bound"]
InputKind = Literal["float32", "uint8"]

INPUT_FLOAT = "pixel_values"
INPUT_UINT8 = "image"


@dataclass(frozen=True)
class MetricTail:
    """Affine map from network output to metres: ``depth = 1 / max(scale * y + shift, 1e-8)``.

    ``scale`` and ``shift`` are in inverse metres (the published models carry them outside the checkpoint).
    ``png_scale`` is the factor of the data set's 16-bit depth PNG (KITTI 256, NYU 1000).
    """

    scale: float
    shift: float
    png_scale: float


@dataclass(frozen=True)
class ImageSpec:
    """Image rule: how an image becomes the network input (resize, normalise, HWC to CHW, as in the original code)."""

    height: int
    width: int
    resize: ResizeRule
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    keep_aspect: bool = True


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build one network.

    ``taps`` are the four features handed to the decoder, finest first; ``reassemble_channels`` are their channels
    after Reassemble (paper §3.1; where paper and published code differ, the code, for which the weights were trained).
    ``joint`` names further tasks (:mod:`dpt_deploy.core.task`), each with a head of its own on the same decoder.
    """

    name: str
    task: ModelTask
    encoder: EncoderSpec
    taps: tuple[Tap, ...]
    readout: Readout
    reassemble_channels: tuple[int, ...]
    fusion_channels: int = 256
    decoder: Decoder = "dpt"
    num_classes: int = 0
    stride: int = 32
    metric: MetricTail | None = None
    joint: tuple[str, ...] = ()

    def with_classes(self, num_classes: int) -> Self:
        """A copy that is a segmentation model of ``num_classes`` classes."""
        return replace(self, task="segmentation", num_classes=num_classes, metric=None)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: a name, a NumPy dtype name, and dimensions (a string is symbolic)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
