"""Branches: further outputs of one encoder, each from a decoder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor, nn

from dpt_deploy.core.spec import SCORES_TASK, ModelSpec
from dpt_deploy.model.decoders import head_channels, tasks_with_decoder
from dpt_deploy.model.heads import SegmentationHead
from dpt_deploy.model.pyramid import PyramidDecoder


class SegmentationBranch(PyramidDecoder):
    """Decoder and head of the segmentation network of ``spec``: features to logits (B, classes, H, W).

    Its state dict is that of the segmentation network without the encoder.
    """

    last: ClassVar[str] = SegmentationHead.last

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        own = replace(spec.with_classes(spec.num_classes), joint=())
        self._make_levels(own, batch_norm=True)
        self.head = SegmentationHead(head_channels(own), own.num_classes)

    def forward(self, features: Sequence[Tensor], pixel_values: Tensor, height: int, width: int) -> Tensor:
        path, size = self._fuse(features, pixel_values, height, width)
        logits: Tensor = self.head(path, size)
        return logits


BRANCHES = {SCORES_TASK: SegmentationBranch}


def branches(spec: ModelSpec) -> nn.ModuleDict:
    """The branches of ``spec.joint``, by task."""
    return nn.ModuleDict({task: BRANCHES[task](spec) for task in tasks_with_decoder(spec)})
