"""The Dense Prediction Transformer: encoder, reassemble, fusion, head (paper Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from dpt_deploy.core.spec import SKY_TASK, ModelSpec
from dpt_deploy.model.branches import BRANCHES, branches
from dpt_deploy.model.decoders import form_of, head_channels
from dpt_deploy.model.encoders.registry import make_encoder
from dpt_deploy.model.enlarge import Enlarge
from dpt_deploy.model.heads import (
    DepthHead,
    Head,
    MetricDepth,
    ProjectedDepthHead,
    SkyHead,
    joint_heads,
    segmentation_head,
)
from dpt_deploy.model.landmarks import Landmarks
from dpt_deploy.model.pyramid import PyramidDecoder


class DPT(PyramidDecoder):
    """Normalised RGB (B, 3, H, W) to depth (B, H, W) or logits (B, classes, H, W); H and W are multiples of the stride.

    With joint tasks the result is a tuple: this output, then one for each task of ``spec.joint``, from a head on this
    decoder, from a branch with a decoder of its own, or, for the sky, from the depth head.

    Index 0 of ``reassemble``, ``neck`` and ``fusion`` is the finest level (the original's ``layer1``, ``refinenet1``).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        tokens = spec.encoder.tokens
        self.patch = tokens.patch if tokens else 1
        self.encoder = make_encoder(spec.encoder, spec.taps)
        self._make_levels(spec, batch_norm=spec.task == "segmentation" and not form_of(spec).shared)
        self.head = _make_head(spec)
        self.tail: nn.Module = MetricDepth(spec.metric) if spec.metric else nn.Identity()
        self.joint = joint_heads(spec)
        self.branches = branches(spec)

    def forward(self, pixel_values: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = pixel_values.shape[2] // self.patch, pixel_values.shape[3] // self.patch
        features = self.encoder(pixel_values)
        path, size = self._fuse(features, pixel_values, height, width)
        found = self.head(path, size)
        first, sky = found if isinstance(found, tuple) else (found, None)
        output: Tensor = self.tail(first)
        if not self.spec.joint:
            return output
        further = {SKY_TASK: sky, **{task: head(path, size) for task, head in self.joint.items()}}
        further |= {task: branch(features, pixel_values, height, width) for task, branch in self.branches.items()}
        return (output, *(further[task] for task in self.spec.joint))

    @property
    def landmarks(self) -> Landmarks:
        """The modules that other parts of the program refer to."""
        parts = ("reassemble", "neck", "fusion") if form_of(self.spec).neck else ("reassemble", "fusion")
        levels = [f"{part}.{level}" for part in parts for level in range(len(self.fusion))]
        enlarge = ("enlarge",) if isinstance(self.enlarge, Enlarge) else ()
        fp32 = {f"head.{name}": reason for name, reason in self.head.fp32.items()}
        if self.spec.metric:
            fp32["tail"] = "the scale of metric depth is subnormal in 16 bits"
        joint = cast("Mapping[str, Head]", self.joint)
        for task, head in joint.items():
            fp32 |= {f"joint.{task}.{name}": reason for name, reason in head.fp32.items()}
        last_of = {task: f"joint.{task}.{head.last}" for task, head in joint.items()}
        last_of[SKY_TASK] = f"head.sky.{SkyHead.last}"
        last_of |= {task: f"branches.{task}.head.{BRANCHES[task].last}" for task in self.branches}
        return Landmarks(
            comparable=(*(f"encoder.{name}" for name in self.encoder.comparable), *levels, *enlarge),
            fp32=fp32,
            fp32_alone={f"encoder.{name}": reason for name, reason in self.encoder.fp32.items()},
            penultimate="fusion.1",
            last=f"head.{self.head.last}",
            joint=tuple(last_of[task] for task in self.spec.joint),
        )


def _make_head(spec: ModelSpec) -> Head:
    form, channels = form_of(spec), head_channels(spec)
    if spec.task == "segmentation":
        return segmentation_head(spec)
    if form.head_projects:
        return ProjectedDepthHead(channels, form)
    return DepthHead(channels, form, spec.activation, spec.max_depth, sky=spec.sky is not None)
