"""Encoders as frozen data: one class a kind, with the numbers that kind is built from.

A recipe and a sidecar name the kind; the other keys are those of its class. The modules that these classes describe
are in :mod:`dpt_deploy.model.encoders`: this half needs neither PyTorch nor timm. Importing this package registers
every kind.
"""

from dpt_deploy.core.encoders.base import (
    ENCODER_SPECS,
    PAPER_STRIDES,
    EncoderFamily,
    EncoderSpec,
    Tap,
    Tokens,
    other_kinds_keys,
    register_encoder_spec,
)
from dpt_deploy.core.encoders.beit import BeitSpec
from dpt_deploy.core.encoders.cnn import CNNSpec
from dpt_deploy.core.encoders.dinov2 import Dinov2Spec
from dpt_deploy.core.encoders.efficientnet import EfficientNetSpec
from dpt_deploy.core.encoders.levit import LeViTSpec
from dpt_deploy.core.encoders.nextvit import NextViTSpec
from dpt_deploy.core.encoders.swin import StageWindows, Swin2Spec, SwinSpec, WindowedSpec
from dpt_deploy.core.encoders.transformer import (
    HybridSpec,
    PositionResize,
    TransformerSpec,
    ViTSpec,
    WeightStandardisation,
)

__all__ = [
    "ENCODER_SPECS",
    "PAPER_STRIDES",
    "BeitSpec",
    "CNNSpec",
    "Dinov2Spec",
    "EfficientNetSpec",
    "EncoderFamily",
    "EncoderSpec",
    "HybridSpec",
    "LeViTSpec",
    "NextViTSpec",
    "PositionResize",
    "StageWindows",
    "Swin2Spec",
    "SwinSpec",
    "Tap",
    "Tokens",
    "TransformerSpec",
    "ViTSpec",
    "WeightStandardisation",
    "WindowedSpec",
    "other_kinds_keys",
    "register_encoder_spec",
]
