"""The decoders that networks of this field were trained with, as records: they differ in few places."""

from __future__ import annotations

from dataclasses import dataclass

from dpt_deploy.core.encoders import PAPER_STRIDES
from dpt_deploy.core.spec import SCORES_TASK, Decoder, ModelSpec


@dataclass(frozen=True)
class DecoderForm:
    """Departures of one decoder.

    Attributes:
        projects: a fusion block ends with a 1x1 convolution.
        in_place: the first ReLU of a residual unit writes in place, so that its shortcut carries ``relu(x)``.
        widens: each coarser level has twice the channels of the finer one, and its fusion block halves them.
        enlarges: between fusion and head, transposed convolutions make the map four times larger.
        head: channels inside the depth head, None for half of those in front of it; and in front of its last
            convolution.
        head_corners: the head upsamples with aligned corners; fusion always does.
        biases: the convolutions of residual units have biases, where no batch norm follows.
        path_leads: every step doubles the map. Where a coarse map was rounded up, the skips are resized to the path,
            and the output to the image.
        head_projects: the head begins with a 3x3 convolution and a ReLU.
        neck: a 3x3 convolution brings each level to the channels of fusion; else Reassemble does.
        coarsens: kernel of Reassemble's strided convolution, of 3 with padding or of 2 without.
        refines_coarsest: the coarsest block has a unit for a skip like the others, through which its map goes first.
        shared: depth and segmentation were trained on one decoder, without batch norm, with heads of one form.
    """

    projects: bool = True
    in_place: bool = False
    widens: bool = False
    enlarges: bool = False
    head: tuple[int | None, int] = (None, 32)
    head_corners: bool = True
    biases: bool = True
    path_leads: bool = False
    head_projects: bool = False
    neck: bool = True
    coarsens: int = 3
    refines_coarsest: bool = False
    shared: bool = False


DECODERS: dict[Decoder, DecoderForm] = {
    "dpt": DecoderForm(),
    "midas21": DecoderForm(projects=False, in_place=True, head=(128, 32), head_corners=False),
    "midas21-small": DecoderForm(widens=True, head_corners=False),
    "levit": DecoderForm(enlarges=True, head=(None, 8)),
    "dinov2": DecoderForm(biases=False, path_leads=True, head_projects=True),
    "focus": DecoderForm(projects=False, in_place=True, neck=False, coarsens=2, refines_coarsest=True, shared=True),
}

ENLARGED = 4  # times larger, and of a quarter of the channels, is the map behind ``enlarges``


def form_of(spec: ModelSpec) -> DecoderForm:
    """The form of the decoder of ``spec``."""
    return DECODERS[spec.decoder]


def tasks_with_decoder(spec: ModelSpec) -> tuple[str, ...]:
    """The joint tasks of ``spec`` that have a decoder of their own."""
    return () if form_of(spec).shared else tuple(task for task in spec.joint if task == SCORES_TASK)


def level_channels(spec: ModelSpec, level: int) -> int:
    """Channels of a level of the decoder, 0 the finest, up to the output of its residual units."""
    return spec.fusion_channels << level if form_of(spec).widens else spec.fusion_channels


def fused_channels(spec: ModelSpec, level: int) -> int:
    """Channels that the fusion block of a level returns: those of the next finer level."""
    return level_channels(spec, max(0, level - 1))


def head_channels(spec: ModelSpec) -> int:
    """Channels in front of the head."""
    return spec.fusion_channels // ENLARGED if form_of(spec).enlarges else spec.fusion_channels


def head_stride(spec: ModelSpec) -> float:
    """Stride in the image, in pixels, of the map of which the head makes twice as large a one; else it resizes."""
    return PAPER_STRIDES[0] * ENLARGED if form_of(spec).enlarges else PAPER_STRIDES[0]
