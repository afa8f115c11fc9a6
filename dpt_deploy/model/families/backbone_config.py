"""Hugging Face's ``config.json`` of a DPT on an encoder of its own class: the network that it describes.

As in :mod:`dpt_deploy.model.families.huggingface_config`, only entries that change the network are compared, in the
form in which ``transformers`` uses them. The entries of DPT's own encoder are left out: there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.encoders import BeitSpec, Dinov2Spec, Swin2Spec
from dpt_deploy.core.encoders.swin import PATCH
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.decoders import form_of
from dpt_deploy.model.families.dinov2_config import adapted_encoder, describe_dinov2, whole
from dpt_deploy.model.families.huggingface_config import (
    DEFAULTS,
    HINT,
    as_used,
    compare_entries,
    epsilon_of,
    filled,
    integers,
    listed,
    shown,
    square,
)

_DECODER = (
    "is_hybrid",
    "hidden_act",
    "neck_hidden_sizes",
    "fusion_hidden_size",
    "head_in_index",
    "use_batch_norm_in_fusion_residual",
    "use_bias_in_fusion_residual",
    "add_projection",
)
_TOKENS = ("readout_type", "reassemble_factors")  # what makes maps of tokens; Swin has maps

# BeitConfig's and Swinv2Config's own defaults, for keys that a file leaves out.
_BEIT_DEFAULTS: dict[str, Any] = {
    "model_type": "",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "use_absolute_position_embeddings": False,
    "use_relative_position_bias": False,
    "use_shared_relative_position_bias": False,
    "layer_scale_init_value": 0.1,
    "add_fpn": False,
    "reshape_hidden_states": True,
    "out_features": None,
    "out_indices": None,
}
_SWIN2_DEFAULTS: dict[str, Any] = {
    "model_type": "",
    "image_size": 224,
    "patch_size": 4,
    "num_channels": 3,
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "pretrained_window_sizes": [0, 0, 0, 0],
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
    "out_features": None,
    "out_indices": None,
}


def adapt_to_backbone(spec: ModelSpec, config: Mapping[str, Any], source: Path) -> ModelSpec:
    """``spec`` with those numbers of a Hugging Face ``config.json`` that no tensor shows.

    Of BEiT and DINOv2 they are the layer-norm epsilon and the number of blocks, of which those after the last tap do
    not count; of DINOv2 the rule of positions, too.

    Raises:
        BadFileError: the configuration is of another network; the message names the key and both values.
    """
    encoder, found = spec.encoder, filled(DEFAULTS, config)
    backbone = found["backbone_config"]
    if not isinstance(encoder, BeitSpec | Swin2Spec | Dinov2Spec) or not isinstance(backbone, dict):
        raise BadFileError(
            f"{source}: config.json has backbone_config = {shown(backbone)}; {spec.name!r} has an encoder of kind "
            f"{encoder.kind!r}",
            hint=HINT,
        )
    keys = _DECODER + (() if isinstance(encoder, Swin2Spec) else _TOKENS)
    used = as_used(found, spec.task)
    compare_entries(_decoder(spec, keys), used, found, source, spec.name)
    if isinstance(encoder, Swin2Spec):
        written = filled(_SWIN2_DEFAULTS, backbone)
        compare_entries(_swin2(encoder), _swin2_as_used(written), written, source, spec.name)
        return spec
    if isinstance(encoder, Dinov2Spec):
        return replace(spec, encoder=adapted_encoder(spec, encoder, backbone, source))
    written = filled(_BEIT_DEFAULTS, backbone)
    compare_entries(_beit(spec, encoder), _beit_as_used(written), written, source, spec.name)
    blocks = max([0, *integers(written["num_hidden_layers"])])
    epsilon = epsilon_of(written["layer_norm_eps"], source)
    return replace(spec, encoder=replace(encoder, norm_eps=epsilon, depth=max(encoder.depth, blocks)))


def describe_dpt_on_dinov2(spec: ModelSpec, encoder: Dinov2Spec) -> dict[str, Any]:
    """The ``config.json`` of ``spec``, a depth head on the DINOv2 ``encoder``, with the blocks up to the last tap."""
    described = _decoder(spec, _DECODER + _TOKENS)
    described["reassemble_factors"] = [whole(factor) for factor in described["reassemble_factors"]]
    return {"model_type": "dpt", **described, "backbone_config": describe_dinov2(spec, encoder)}


def _decoder(spec: ModelSpec, keys: tuple[str, ...]) -> dict[str, Any]:
    encoder, form = spec.encoder, form_of(spec)
    patch = encoder.tokens.patch if encoder.tokens else 1
    described = {
        **DEFAULTS,
        "readout_type": spec.readout,
        "reassemble_factors": [patch / stride for stride in encoder.strides],
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
        "use_bias_in_fusion_residual": form.biases,
        "add_projection": form.head_projects,
    }
    used = as_used(described, spec.task)
    return {key: used[key] for key in keys}


def _beit(spec: ModelSpec, encoder: BeitSpec) -> dict[str, Any]:
    return {
        "model_type": "beit",
        "hidden_size": encoder.width,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "hidden_act": "gelu",
        "image_size": encoder.grid,
        "patch_size": encoder.patch,
        "num_channels": 3,
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": True,
        "use_shared_relative_position_bias": False,
        "layer_scale_init_value": True,
        "add_fpn": False,
        "reshape_hidden_states": False,
        "out_features": [f"stage{int(tap) + 1}" for tap in spec.taps],
    }


def _beit_as_used(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that change a BEiT, as ``transformers`` uses them: a scale of blocks is there or not."""
    scale, patch = config["layer_scale_init_value"], square(config["patch_size"])
    flags = [key for key in _BEIT_DEFAULTS if key.startswith("use_") or key in ("add_fpn", "reshape_hidden_states")]
    as_written = ("model_type", "hidden_size", "num_attention_heads", "intermediate_size", "num_channels")
    side = square(config["image_size"])
    whole = isinstance(side, int) and isinstance(patch, int) and patch > 0
    return {
        **{key: config[key] for key in as_written},
        **{key: bool(config[key]) for key in flags},
        "hidden_act": _activation(config),
        "image_size": side // patch if whole else side,
        "patch_size": patch,
        "layer_scale_init_value": isinstance(scale, int | float) and scale > 0,
        "out_features": _stages(config),
    }


def _swin2(encoder: Swin2Spec) -> dict[str, Any]:
    return {
        "model_type": "swinv2",
        "image_size": encoder.grid * PATCH,
        "patch_size": PATCH,
        "num_channels": 3,
        "embed_dim": encoder.width,
        "depths": list(encoder.depths),
        "num_heads": list(encoder.heads),
        "window_size": encoder.window,
        "pretrained_window_sizes": list(encoder.pretrained_windows),
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "hidden_act": "gelu",
        "use_absolute_embeddings": False,
        "layer_norm_eps": 1e-5,
        "out_features": [f"stage{stage + 1}" for stage in range(len(encoder.stages))],
    }


def _swin2_as_used(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that change a Swin V2, as ``transformers`` uses them."""
    return {
        **{key: value for key, value in config.items() if key in _SWIN2_DEFAULTS},
        **{key: square(config[key]) for key in ("image_size", "patch_size")},
        **{key: bool(config[key]) for key in ("qkv_bias", "use_absolute_embeddings")},
        "hidden_act": _activation(config),
        "out_features": _stages(config),
    }


def _activation(config: Mapping[str, Any]) -> Any:
    return "gelu" if config["hidden_act"] == "gelu_python" else config["hidden_act"]


def _stages(config: Mapping[str, Any]) -> list[Any]:
    """Names of the tapped stages, by name or by index."""
    if config["out_features"] is not None:
        return listed(config["out_features"])
    return [f"stage{index}" for index in integers(config["out_indices"])]
