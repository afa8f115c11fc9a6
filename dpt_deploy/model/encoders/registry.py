"""The module of every kind of encoder. A new one is a file next to this one, a specification, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpt_deploy.core.encoders import (
    BeitSpec,
    CNNSpec,
    Dinov2Spec,
    EfficientNetSpec,
    EncoderSpec,
    HybridSpec,
    LeViTSpec,
    NextViTSpec,
    Swin2Spec,
    SwinSpec,
    Tap,
    ViTSpec,
    register_encoder_spec,
)
from dpt_deploy.model.encoders.base import Encoder
from dpt_deploy.model.encoders.beit import BeitEncoder
from dpt_deploy.model.encoders.cnn import ConvEncoder
from dpt_deploy.model.encoders.dinov2 import Dinov2Encoder
from dpt_deploy.model.encoders.efficientnet import EfficientNetEncoder
from dpt_deploy.model.encoders.hybrid import HybridEncoder
from dpt_deploy.model.encoders.levit import LeViTEncoder
from dpt_deploy.model.encoders.nextvit import NextViTEncoder
from dpt_deploy.model.encoders.swin import WindowEncoder
from dpt_deploy.model.encoders.vit import ViTEncoder

_Make = Callable[[Any, tuple[Tap, ...]], Encoder]  # Any: each takes its own specification
_MODULES: dict[type[EncoderSpec], _Make] = {
    ViTSpec: ViTEncoder,
    HybridSpec: HybridEncoder,
    CNNSpec: ConvEncoder,
    Dinov2Spec: Dinov2Encoder,
    BeitSpec: BeitEncoder,
    SwinSpec: WindowEncoder,
    Swin2Spec: WindowEncoder,
    EfficientNetSpec: EfficientNetEncoder,
    LeViTSpec: LeViTEncoder,
    NextViTSpec: NextViTEncoder,
}


def register_encoder(spec: type[EncoderSpec], make: _Make) -> None:
    """Make ``spec`` a kind that recipes and sidecars can name, and ``make`` what builds its module."""
    register_encoder_spec(spec)
    _MODULES[spec] = make


def make_encoder(spec: EncoderSpec, taps: tuple[Tap, ...]) -> Encoder:
    """The module of ``spec``."""
    return _MODULES[type(spec)](spec, taps)
