"""Description of a model, its input image and its tensors, as frozen data.

A :class:`ModelSpec` describes one Dense Prediction Transformer of Ranftl et al. (ICCV 2021), or the convolutional
MiDaS network it is compared with, closely enough to build it (§3 and Tables 6-8 of the paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from dpt_deploy.core.encoders import EncoderSpec, Tap
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.ranges import MAX_CLASSES, Amount, Channels, FileStem, Positive, Range, Side
from dpt_deploy.core.size import Size, check_size

ModelTask = Literal["depth", "segmentation"]
TaskChoice = Literal["depth", "segmentation", "both"]  # what --task accepts
Readout = Literal["ignore", "add", "project"]
Decoder = Literal["dpt", "midas21", "midas21-small", "levit", "dinov2", "focus"]
ResizeRule = Literal["minimal", "lower_bound", "upper_bound"]
RestoreRule = Literal["bicubic", "bilinear", "bilinear-corners"]
InputKind = Literal["float32", "uint8"]
Activation = Literal["relu", "sigmoid", "exp"]
Quantity = Literal["inverse depth", "relative depth", "canonical depth", "metres"]

SCORES_TASK = "scores"  # the joint task of segmentation; most decoders for it are its own
SKY_TASK = "sky"  # the joint task that the depth head computes beside the depth
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
    png_scale: Positive


@dataclass(frozen=True)
class SkyFill:
    """Depth of the sky, which a network cannot measure: that of the farthest ground (Depth Anything 3).

    A pixel is sky where the network's map of the sky is at least ``threshold``. If there are more than ``pixels`` of
    the sky and of the ground, the sky's depth becomes the ``quantile`` of the ground's, before the map is resized.
    """

    threshold: Positive
    quantile: Annotated[float, Range(0, 1)]
    pixels: Annotated[int, Range(0, 1 << 40)]


@dataclass(frozen=True)
class ImageSpec:
    """Image rule: how an image becomes the network input (resize, normalise, HWC to CHW, as in the original code).

    ``restore`` is the filter that brings the network's map back to the image's size: PyTorch's ``interpolate`` in the
    mode ``bicubic`` or ``bilinear``, or ``bilinear`` with ``align_corners=True``.
    """

    height: Side
    width: Side
    resize: ResizeRule
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    keep_aspect: bool = True
    restore: RestoreRule = "bicubic"


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build one network.

    ``taps`` are the features handed to the decoder, finest first; ``reassemble_channels`` are their channels
    after Reassemble (paper §3.1; where paper and published code differ, the code, for which the weights were trained).
    ``joint`` names further tasks (:mod:`dpt_deploy.core.task`), each with a head of its own on the same decoder;
    ``scores`` has a decoder of its own, too, that of the segmentation network of ``num_classes`` classes, except where
    both tasks were trained on one (the decoder ``focus``).

    ``activation`` ends the depth head; a sigmoid is multiplied by ``max_depth``. ``quantity`` names the head's numbers:
    ``inverse depth`` and ``relative depth`` up to scale and shift (near is large, far is large), ``metres``, or
    ``canonical depth``, which is metres after a multiplication by ``focal / canonical_focal``, both in pixels of the
    network's input. A network without a stated quantity has :attr:`output_quantity`. ``png_scale`` is that of
    :class:`MetricTail`, for networks that return metres, or depth that becomes metres, without such a tail. ``sky``
    belongs to the joint task of that name.
    """

    name: FileStem
    task: ModelTask
    encoder: EncoderSpec
    taps: tuple[Tap, ...]
    readout: Readout
    reassemble_channels: tuple[Channels, ...]
    fusion_channels: Channels = 256
    decoder: Decoder = "dpt"
    num_classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    stride: Annotated[int, Range(1, 4096)] = 32
    metric: MetricTail | None = None
    joint: tuple[str, ...] = ()
    activation: Activation = "relu"
    max_depth: Amount = 0.0
    quantity: Quantity | None = None
    canonical_focal: Amount = 0.0
    png_scale: Amount = 0.0
    sky: SkyFill | None = None

    @property
    def only_size(self) -> Size | None:
        """The one image size that the network takes; None where it takes every multiple of ``stride``."""
        return Size(*self.encoder.fixed_size) if self.encoder.fixed_size else None

    def check_size(self, size: Size) -> None:
        """Raise :class:`UsageError` unless the network takes images of ``size``."""
        if self.only_size not in (None, size):
            raise UsageError(
                f"{self.name!r} takes images of {self.only_size} pixels only; {size} was asked for",
                hint="its weights belong to that one grid: leave the size out, or choose another network",
            )
        check_size(size, stride=self.stride)

    def with_classes(self, num_classes: int) -> Self:
        """A copy that is a segmentation model of ``num_classes`` classes."""
        return replace(
            self.depth_alone(),
            task="segmentation",
            num_classes=num_classes,
            metric=None,
            activation="relu",
            max_depth=0.0,
            quantity=None,
            canonical_focal=0.0,
            png_scale=0.0,
        )

    def depth_alone(self) -> Self:
        """A copy of a depth model that returns depth as the network computes it, without sky and without scores."""
        joint = tuple(task for task in self.joint if task not in (SKY_TASK, SCORES_TASK))
        return replace(self, joint=joint, sky=None, num_classes=0)

    def with_scores(self, num_classes: int) -> Self:
        """A copy of a depth model that also returns the scores of ``num_classes`` classes."""
        joint = self.joint if SCORES_TASK in self.joint else (*self.joint, SCORES_TASK)
        return replace(self, joint=joint, num_classes=num_classes)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the network computes: its own, then its joint ones, of which scores are ``segmentation``."""
        return (self.task, *("segmentation" if task == SCORES_TASK else task for task in self.joint))

    @property
    def has_joint_scores(self) -> bool:
        """True for a model that returns depth and the scores of classes."""
        return SCORES_TASK in self.joint

    @property
    def output_quantity(self) -> Quantity | None:
        """The quantity of the depth head, by default that of the paper's models; None for segmentation."""
        if self.task != "depth":
            return None
        return self.quantity or ("metres" if self.metric else "inverse depth")

    @property
    def steps_per_metre(self) -> float:
        """The factor of a 16-bit PNG of metres; 0 if no output of the network can be metres."""
        return self.metric.png_scale if self.metric else self.png_scale

    def problems(self) -> Iterable[tuple[str, str]]:
        """List the reasons why no network can be built, each with a hint."""
        encoder = self.encoder
        levels = len(encoder.strides)
        if len(self.taps) != levels or len(self.reassemble_channels) != levels:
            yield (
                f"{len(self.taps)} taps and {len(self.reassemble_channels)} reassemble_channels",
                f"this encoder's decoder fuses exactly {levels} features, finest first",
            )
            return
        for tap in self.taps:
            if isinstance(tap, int) and not 0 <= tap < encoder.blocks:
                yield (
                    f"tap {tap} of an encoder of {encoder.blocks} blocks",
                    "block taps count from 0; feature maps of a convolutional stage are named 'stage0', 'stage1', …",
                )
        wrong = list(encoder.problems())
        yield from wrong
        if wrong:
            return
        if self.only_size and (self.only_size.height % self.stride or self.only_size.width % self.stride):
            yield f"images of {self.only_size} pixels and a stride of {self.stride}", "the stride divides both sides"
        if self.stride % encoder.size_step:
            yield (
                f"stride {self.stride}; this encoder takes sides that are multiples of {encoder.size_step}",
                f"set model.stride to {encoder.size_step}",
            )
        if self.task == "segmentation" and self.has_joint_scores:
            yield "a segmentation model with joint scores", "scores join a depth model: set model.task to depth"
        elif (self.task == "segmentation" or self.has_joint_scores) != (self.num_classes > 0):
            yield f"task {self.task!r} with {self.num_classes} classes", "set model.num_classes"
        yield from _quantity_problems(self)
        yield from _stage_tap_problems(self)
        yield from _block_map_problems(self)


def _quantity_problems(model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield what the keys of the depth head's values contradict."""
    quantity, metric = model.output_quantity, model.metric
    if model.task != "depth" and (model.quantity or metric or model.activation != "relu"):
        yield "a segmentation model with keys of the depth head", "remove quantity, activation and metric"
    if metric and quantity != "metres":
        yield f"[model.metric] with the quantity {quantity!r}", "its output is metres: remove quantity or the table"
    if (model.activation == "sigmoid") != (model.max_depth > 0):
        yield (
            f"activation {model.activation!r} with a max_depth of {model.max_depth:g}",
            "a sigmoid is multiplied by max_depth; other activations have none",
        )
    if (quantity == "canonical depth") != (model.canonical_focal > 0):
        yield (
            f"{quantity} with a canonical_focal of {model.canonical_focal:g}",
            "canonical depth, and nothing else, becomes metres by focal / canonical_focal",
        )
    if (SKY_TASK in model.joint) != (model.sky is not None):
        yield f"joint tasks {model.joint} with a sky of {model.sky}", "the joint task 'sky' needs the table [model.sky]"
    if model.sky and quantity == "inverse depth":
        yield "a sky with inverse depth", "the sky is filled with the depth of the farthest ground, where far is large"
    if (quantity in ("metres", "canonical depth")) != (model.steps_per_metre > 0):
        yield (
            f"{quantity} with a png_scale of {model.steps_per_metre:g}",
            "depth that is metres, or becomes metres, needs the factor of its 16-bit PNG: 256 (KITTI), 1000 (NYU)",
        )


def _stage_tap_problems(model: ModelSpec) -> Iterator[tuple[str, str]]:
    channels = model.encoder.stages
    for level, (tap, wanted) in enumerate(zip(model.taps, model.reassemble_channels, strict=True)):
        if not isinstance(tap, str):
            continue
        if tap != f"stage{level}":
            yield (
                f"tap {level} is {tap!r}, whose resolution does not fit",
                f"the map at that level (1/{model.encoder.strides[level]:g} resolution) is 'stage{level}'",
            )
        found = channels[level] if level < len(channels) else None
        if found != wanted:
            yield (
                f"reassemble_channels[{level}] is {wanted}, but {tap!r} has {found} channels",
                "a tapped feature map enters the decoder as it is: the numbers must agree",
            )


def _block_map_problems(model: ModelSpec) -> Iterator[tuple[str, str]]:
    for level, (tap, wanted) in enumerate(zip(model.taps, model.reassemble_channels, strict=True)):
        found = model.encoder.map_of(tap) if isinstance(tap, int) and 0 <= tap < model.encoder.blocks else None
        stride = model.encoder.strides[level]
        if found and found != (stride, wanted):
            yield (
                f"tap {level} is block {tap}, a map at 1/{found[0]:g} resolution with {found[1]} channels; "
                f"expected 1/{stride:g} and reassemble_channels[{level}] = {wanted}",
                "a map enters the decoder as it is: tap a block of that stage, and give its channels",
            )


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: a name, a NumPy dtype name, and dimensions (a string is symbolic)."""

    name: str
    dtype: str
    shape: tuple[Annotated[int, Range(1, 1 << 40)] | str, ...]
