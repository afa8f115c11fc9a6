"""Description of a model, its input image and its tensors, as frozen data.

A :class:`ModelSpec` describes one Dense Prediction Transformer of Ranftl et al. (ICCV 2021), or the convolutional
MiDaS network it is compared with, closely enough to build it (§3 and Tables 6-8 of the paper).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

Task = Literal["depth", "segmentation"]
Readout = Literal["ignore", "add", "project"]
Decoder = Literal["dpt", "midas21"]
ResizeRule = Literal["minimal", "lower_bound", "upper_bound"]
InputKind = Literal["float32", "uint8"]
EncoderKind = Literal["vit", "hybrid", "cnn"]
PositionResize = Literal["bilinear", "nearest", "tiled"]
WeightStandardisation = Literal["sqrt", "sum"]  # divide by sqrt(σ²+1e-8) (timm >= 0.4.12) or by σ+1e-5 (timm 0.4.5)
Tap = int | str  # a transformer block (0-based), or "stage0" … of the convolutional encoder

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
class EncoderSpec:
    """The network in front of the decoder (paper Table 8).

    ``vit`` is a plain Vision Transformer on patches of ``patch`` pixels; ``hybrid`` feeds a ViT with the output of
    ``stage_blocks``/``stage_channels`` of a ResNetV2 at 1/16 resolution; ``cnn`` is timm's network ``timm_name``.
    ``grid`` is the side of the position table (24 for 384 pixels); ``prefix_tokens`` is 2 for distilled DeiT.
    ``position_resize`` is how that table meets another grid: ``nearest`` and ``tiled`` are defects, planted where a
    study must prove that it would notice one.
    """

    kind: EncoderKind
    width: int = 0
    depth: int = 0
    heads: int = 0
    patch: int = 16
    grid: int = 24
    prefix_tokens: int = 1
    norm_eps: float = 1e-6
    stem_channels: int = 64
    stage_blocks: tuple[int, ...] = ()
    stage_channels: tuple[int, ...] = ()
    weight_standardisation: WeightStandardisation = "sqrt"
    timm_name: str = ""
    position_resize: PositionResize = "bilinear"


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build one network.

    ``taps`` are the four features handed to the decoder, finest first; ``reassemble_channels`` are their channels
    after Reassemble (paper §3.1; where paper and published code differ, the code, for which the weights were trained).
    """

    name: str
    task: Task
    encoder: EncoderSpec
    taps: tuple[Tap, ...]
    readout: Readout
    reassemble_channels: tuple[int, ...]
    fusion_channels: int = 256
    decoder: Decoder = "dpt"
    num_classes: int = 0
    stride: int = 32
    metric: MetricTail | None = None

    def with_classes(self, num_classes: int) -> Self:
        """The same network as a segmentation model of ``num_classes`` classes."""
        return replace(self, task="segmentation", num_classes=num_classes, metric=None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict` (JSON turns tuples into lists; they come back as tuples)."""
        values = dict(data)
        encoder = dict(values["encoder"])
        for table, keys in ((encoder, ("stage_blocks", "stage_channels")), (values, ("taps", "reassemble_channels"))):
            for key in keys:
                table[key] = tuple(table.get(key, ()))
        values["encoder"] = EncoderSpec(**encoder)
        if values.get("metric"):
            values["metric"] = MetricTail(**values["metric"])
        return cls(**values)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: a name, a NumPy dtype name, and dimensions (a string is symbolic)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
