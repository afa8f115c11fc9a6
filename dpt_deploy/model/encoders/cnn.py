"""The convolutional encoders DPT is compared with (paper Table 8): ResNet50, ResNeXt101-WSL, the MiDaS layout."""

from __future__ import annotations

import timm
from torch import Tensor, nn

from dpt_deploy.core.encoders import CNNSpec, Tap
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.encoders.base import Encoder


class ConvEncoder(Encoder):
    """timm's ResNet family without its classifier: (B, 3, H, W) to four maps at 1/4, 1/8, 1/16, 1/32."""

    def __init__(self, spec: CNNSpec, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        if not timm.is_model(spec.timm_name):
            raise BadFileError(
                f"timm {timm.__version__} has no network {spec.timm_name!r}",
                hint="give the name of an architecture from timm.list_models()",
            )
        net = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **_resized(spec))
        self.taps = taps
        self.stem = nn.Sequential()
        for name in ("conv1", "bn1", "act1", "maxpool"):
            self.stem.add_module(name, getattr(net, name))
        self.stages = nn.ModuleList(getattr(net, f"layer{index}") for index in range(1, 5))

    @property
    def comparable(self) -> tuple[str, ...]:
        return tuple(f"stages.{index}" for index in range(len(self.stages)))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features: dict[Tap, Tensor] = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            features[f"stage{index}"] = x
        return [features[tap] for tap in self.taps]


def _resized(spec: CNNSpec) -> dict[str, tuple[int, ...]]:
    """timm's arguments for other blocks; a recipe that gives ``stage_blocks`` gives the channels of basic blocks."""
    return {"layers": spec.stage_blocks, "channels": spec.stage_channels} if spec.stage_blocks else {}
