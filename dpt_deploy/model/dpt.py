"""The Dense Prediction Transformer: encoder, reassemble, fusion, head (paper Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from dpt_deploy.core.encoders import Tap
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.decoders import form_of, fused_channels, head_channels, head_stride, level_channels
from dpt_deploy.model.encoders.registry import make_encoder
from dpt_deploy.model.enlarge import Enlarge
from dpt_deploy.model.fusion import Fusion
from dpt_deploy.model.heads import DepthHead, Head, MetricDepth, SegmentationHead, joint_heads
from dpt_deploy.model.landmarks import Landmarks
from dpt_deploy.model.reassemble import KeepMap, Reassemble


class DPT(nn.Module):
    """Normalised RGB (B, 3, H, W) to depth (B, H, W) or logits (B, classes, H, W); H and W are multiples of the stride.

    With joint heads the result is a tuple: this output, then one for each task of ``spec.joint``.

    Index 0 of ``reassemble``, ``neck`` and ``fusion`` is the finest level (the original's ``layer1``, ``refinenet1``).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        tokens = spec.encoder.tokens
        self.patch = tokens.patch if tokens else 1
        self.encoder = make_encoder(spec.encoder, spec.taps)
        levels = range(len(spec.encoder.strides))
        self.reassemble = nn.ModuleList(_make_reassemble(spec, level, spec.taps[level]) for level in levels)
        self.neck = nn.ModuleList(
            nn.Conv2d(channels, level_channels(spec, level), kernel_size=3, padding=1, bias=False)
            for level, channels in enumerate(spec.reassemble_channels)
        )
        batch_norm, form = spec.task == "segmentation", form_of(spec)
        self.fusion = nn.ModuleList(
            Fusion(
                level_channels(spec, level),
                fused_channels(spec, level),
                form,
                batch_norm=batch_norm,
                has_skip=level < levels[-1],
            )
            for level in levels
        )
        self.enlarge: nn.Module = Enlarge(spec.fusion_channels) if form.enlarges else nn.Identity()
        self.head: DepthHead | SegmentationHead = (
            SegmentationHead(head_channels(spec), spec.num_classes)
            if spec.task == "segmentation"
            else DepthHead(head_channels(spec), form, spec.activation, spec.max_depth)
        )
        self.tail: nn.Module = MetricDepth(spec.metric) if spec.metric else nn.Identity()
        self.joint = joint_heads(spec)
        self.doubles = _doubling_steps(spec)

    def forward(self, pixel_values: Tensor) -> Tensor | tuple[Tensor, ...]:
        height, width = pixel_values.shape[2] // self.patch, pixel_values.shape[3] // self.patch
        features = self.encoder(pixel_values)
        maps = [
            neck(reassemble(feature, height, width))
            for feature, reassemble, neck in zip(features, self.reassemble, self.neck, strict=True)
        ]
        targets = [pixel_values, *maps[:-1]]  # of step k, by size: step 0 is the head's, the others are fusion's
        sizes = [
            None if double else (target.shape[2], target.shape[3])
            for target, double in zip(targets, self.doubles, strict=True)
        ]
        path = self.fusion[-1](maps[-1], size=sizes[-1])
        for level in range(len(maps) - 2, 0, -1):
            path = self.fusion[level](path, maps[level], sizes[level])
        path = self.enlarge(self.fusion[0](path, maps[0]))
        output: Tensor = self.tail(self.head(path, sizes[0]))
        if not self.joint:
            return output
        return (output, *(head(path, sizes[0]) for head in self.joint.values()))

    @property
    def landmarks(self) -> Landmarks:
        """The modules that other parts of the program refer to."""
        levels = [f"{part}.{level}" for part in ("reassemble", "neck", "fusion") for level in range(len(self.fusion))]
        enlarge = ("enlarge",) if isinstance(self.enlarge, Enlarge) else ()
        fp32 = {f"head.{name}": reason for name, reason in self.head.fp32.items()}
        if self.spec.metric:
            fp32["tail"] = "the scale of metric depth is subnormal in 16 bits"
        joint = cast("Mapping[str, Head]", self.joint)
        for task, head in joint.items():
            fp32 |= {f"joint.{task}.{name}": reason for name, reason in head.fp32.items()}
        return Landmarks(
            comparable=(*(f"encoder.{name}" for name in self.encoder.comparable), *levels, *enlarge),
            fp32=fp32,
            fp32_alone={f"encoder.{name}": reason for name, reason in self.encoder.fp32.items()},
            penultimate="fusion.1",
            last=f"head.{self.head.last}",
            joint=tuple(f"joint.{task}.{head.last}" for task, head in joint.items()),
        )


def _make_reassemble(spec: ModelSpec, level: int, tap: Tap) -> nn.Module:
    tokens = spec.encoder.tokens
    if isinstance(tap, str) or tokens is None:
        return KeepMap()
    channels, stride = spec.reassemble_channels[level], spec.encoder.strides[level]
    return Reassemble(spec.readout, tokens.prefix, tokens.width, channels, stride, tokens.patch)


def _doubling_steps(spec: ModelSpec) -> tuple[bool, ...]:
    """For each upsampling step to a known size, whether it doubles every legal image's map.

    Step 0 is the head's, to the size of the image; step k > 0 is from the map of level k to that of level k - 1. Where
    a step doubles, the graph says so, which runtimes compute faster than a size they must look up. It does not where a
    coarse map is rounded up (37 rows become 19), or where the head's target is no power of two away (1.75 for patches
    of 14 pixels).
    """
    strides, legal = spec.encoder.strides, spec.stride
    between = (coarse == 2 * fine and legal % coarse == 0 for fine, coarse in pairwise(strides))
    return (strides[0] == head_stride(spec), *between)
