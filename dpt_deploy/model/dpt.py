"""The Dense Prediction Transformer: encoder, reassemble, fusion, head (paper Figure 1)."""

from __future__ import annotations

from torch import Tensor, nn

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.encoders.cnn import ConvEncoder
from dpt_deploy.model.encoders.vit import ViTEncoder
from dpt_deploy.model.fusion import Fusion
from dpt_deploy.model.heads import DepthHead, MetricDepth, SegmentationHead
from dpt_deploy.model.reassemble import KeepMap, Reassemble

REDUCTIONS = (4, 8, 16, 32)  # stride in the image of the four maps that are fused, finest first


class DPT(nn.Module):
    """Normalised RGB (B, 3, H, W), H and W multiples of 32, to depth (B, H, W) or logits (B, classes, H, W).

    Index 0 of ``reassemble``, ``neck`` and ``fusion`` is the finest level (the original's ``layer1``, ``refinenet1``).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.patch = spec.encoder.patch
        self.encoder = _make_encoder(spec)
        self.reassemble = nn.ModuleList(
            Reassemble(
                spec.readout, spec.encoder.prefix_tokens, spec.encoder.width, channels, reduction, spec.encoder.patch
            )
            if isinstance(tap, int)
            else KeepMap()
            for tap, channels, reduction in zip(spec.taps, spec.reassemble_channels, REDUCTIONS, strict=True)
        )
        self.neck = nn.ModuleList(
            nn.Conv2d(channels, spec.fusion_channels, kernel_size=3, padding=1, bias=False)
            for channels in spec.reassemble_channels
        )
        batch_norm = spec.task == "segmentation"
        self.fusion = nn.ModuleList(
            Fusion(spec.fusion_channels, spec.decoder, batch_norm=batch_norm, has_skip=level < len(REDUCTIONS) - 1)
            for level in range(len(REDUCTIONS))
        )
        self.head: nn.Module = (
            SegmentationHead(spec.fusion_channels, spec.num_classes)
            if spec.task == "segmentation"
            else DepthHead(spec.fusion_channels, spec.decoder)
        )
        self.tail: nn.Module = MetricDepth(spec.metric) if spec.metric else nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        height, width = pixel_values.shape[2] // self.patch, pixel_values.shape[3] // self.patch
        features = self.encoder(pixel_values)
        maps = [
            neck(reassemble(feature, height, width))
            for feature, reassemble, neck in zip(features, self.reassemble, self.neck, strict=True)
        ]
        path = self.fusion[-1](maps[-1])
        for level in reversed(range(len(maps) - 1)):
            path = self.fusion[level](path, maps[level])
        return self.tail(self.head(path))


def _make_encoder(spec: ModelSpec) -> nn.Module:
    kind = ConvEncoder if spec.encoder.kind == "cnn" else ViTEncoder
    return kind(spec.encoder, spec.taps)
