"""Hugging Face's ``config.json`` of a Depth Anything folder: the network that it describes.

As in :mod:`dpt_deploy.model.families.huggingface_config`, only entries that change the network are compared, in the
form in which ``transformers`` uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.encoders import Dinov2Spec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.families.huggingface_config import (
    HINT,
    compare_entries,
    epsilon_of,
    filled,
    integers,
    last_block,
    listed,
    shown,
    square,
)

# DepthAnythingConfig's and Dinov2Config's own defaults, for keys that a file leaves out.
_DEFAULTS: dict[str, Any] = {
    "model_type": "depth_anything",
    "backbone_config": None,
    "patch_size": 14,
    "reassemble_hidden_size": 384,
    "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [48, 96, 192, 384],
    "fusion_hidden_size": 64,
    "head_in_index": -1,
    "head_hidden_size": 32,
    "depth_estimation_type": "relative",
    "max_depth": None,
}
_DINOV2_DEFAULTS: dict[str, Any] = {
    "model_type": "",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "apply_layernorm": True,
    "reshape_hidden_states": True,
    "out_features": None,
    "out_indices": None,
}


def describe_depth_anything(spec: ModelSpec, encoder: Dinov2Spec) -> dict[str, Any]:
    """The ``config.json`` of ``spec``, whose encoder is ``encoder``, with the blocks up to the last tap."""
    described = _described(spec, encoder)
    described["reassemble_factors"] = [whole(factor) for factor in described["reassemble_factors"]]
    backbone = describe_dinov2(spec, encoder)
    return {**described, "max_depth": whole(described["max_depth"]), "backbone_config": backbone}


def describe_dinov2(spec: ModelSpec, encoder: Dinov2Spec) -> dict[str, Any]:
    """The ``backbone_config`` of ``encoder``, which is that of ``spec``, with the blocks up to the last tap."""
    return _dinov2(spec, encoder) | {
        "image_size": encoder.grid * encoder.patch,
        "layer_norm_eps": encoder.norm_eps,
        "num_hidden_layers": last_block(spec) + 1,
    }


def whole(number: float) -> float:
    """An integer where that is exact: the library takes nothing else for kernels and limits."""
    return int(number) if number == int(number) else number


def adapt_to_depth_anything(spec: ModelSpec, config: Mapping[str, Any], source: Path) -> ModelSpec:
    """``spec`` with those numbers of a folder's ``config.json`` that no tensor shows.

    They are the epsilon of the norms and the number of blocks. The position table is resized by the library's rule.

    Raises:
        BadFileError: the configuration is of another network; the message names the key and both values.
    """
    encoder, found = spec.encoder, filled(_DEFAULTS, config)
    backbone = found["backbone_config"]
    if not isinstance(encoder, Dinov2Spec) or not isinstance(backbone, dict):
        raise BadFileError(
            f"{source}: config.json has backbone_config = {shown(backbone)}; {spec.name!r} has an encoder of kind "
            f"{encoder.kind!r}",
            hint=HINT,
        )
    compare_entries(_described(spec, encoder), _as_used(found), found, source, spec.name)
    return replace(spec, encoder=adapted_encoder(spec, encoder, backbone, source))


def adapted_encoder(spec: ModelSpec, encoder: Dinov2Spec, backbone: Mapping[str, Any], source: Path) -> Dinov2Spec:
    """``encoder``, which is that of ``spec``, with those numbers of a ``backbone_config`` that no tensor shows.

    Raises:
        BadFileError: it is of another encoder; the message names the key and both values.
    """
    written = filled(_DINOV2_DEFAULTS, backbone)
    compare_entries(_dinov2(spec, encoder), _dinov2_as_used(written), written, source, spec.name)
    epsilon = epsilon_of(written["layer_norm_eps"], source)
    blocks = max([0, *integers(written["num_hidden_layers"])])
    return replace(
        encoder,
        norm_eps=epsilon,
        tap_norm_eps=epsilon if encoder.tap_norm_eps else 0.0,
        position_rule="size",
        depth=max(encoder.depth, blocks),
    )


def _described(spec: ModelSpec, encoder: Dinov2Spec) -> dict[str, Any]:
    return {
        "model_type": "depth_anything",
        "patch_size": encoder.patch,
        "reassemble_hidden_size": encoder.width,
        "reassemble_factors": [encoder.patch / stride for stride in encoder.strides],
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
        "head_in_index": 3,
        "head_hidden_size": 32,
        "depth_estimation_type": {"relu": "relative", "sigmoid": "metric"}.get(spec.activation, spec.activation),
        "max_depth": spec.max_depth or 1,
    }


def _as_used(config: Mapping[str, Any]) -> dict[str, Any]:
    """Both heads multiply by ``max_depth``, which is 1 where it is left out."""
    head, limit = config["head_in_index"], config["max_depth"]
    return {
        **{key: config[key] for key in _DEFAULTS if key != "backbone_config"},
        "patch_size": square(config["patch_size"]),
        "head_in_index": head % 4 if isinstance(head, int) and -4 <= head < 4 else head,
        "max_depth": limit if limit else 1,
    }


def _dinov2(spec: ModelSpec, encoder: Dinov2Spec) -> dict[str, Any]:
    return {
        "model_type": "dinov2",
        "hidden_size": encoder.width,
        "num_attention_heads": encoder.heads,
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "image_size": encoder.grid,
        "patch_size": encoder.patch,
        "num_channels": 3,
        "qkv_bias": True,
        "use_swiglu_ffn": encoder.feed_forward == "swiglu",
        "apply_layernorm": encoder.tap_norm_eps > 0,
        "reshape_hidden_states": False,
        "out_features": [f"stage{int(tap) + 1}" for tap in spec.taps],
    }


def _dinov2_as_used(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that change the encoder, as ``transformers`` uses them: SwiGLU has its own activation."""
    side, patch = square(config["image_size"]), square(config["patch_size"])
    fits = isinstance(side, int) and isinstance(patch, int) and patch > 0
    gated = bool(config["use_swiglu_ffn"])
    features = config["out_features"]
    if features is None:
        features = [f"stage{index}" for index in integers(config["out_indices"])]
    return {
        **{
            key: config[key]
            for key in ("model_type", "hidden_size", "num_attention_heads", "mlp_ratio", "num_channels")
        },
        **{key: bool(config[key]) for key in ("qkv_bias", "apply_layernorm", "reshape_hidden_states")},
        "hidden_act": "gelu" if gated or config["hidden_act"] == "gelu_python" else config["hidden_act"],
        "use_swiglu_ffn": gated,
        "image_size": side // patch if fits else side,
        "patch_size": patch,
        "out_features": listed(features),
    }
