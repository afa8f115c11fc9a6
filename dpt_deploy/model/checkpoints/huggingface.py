"""Hugging Face's side: what ``config.json`` says about a network, and folders that ``from_pretrained`` loads.

The keys are in :mod:`dpt_deploy.model.checkpoints.keymaps`; here is everything that no key shows.
``transformers`` is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, write_errors
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.model.checkpoints.keymaps import HUGGINGFACE
from dpt_deploy.model.checkpoints.read import save_tensors
from dpt_deploy.model.dpt import DPT, REDUCTIONS

_BICUBIC = 3  # PIL's number, which preprocessor_config.json uses

# DPTConfig's and BitConfig's own defaults, for keys that a file leaves out.
_DEFAULTS: dict[str, Any] = {
    "model_type": "dpt",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 384,
    "patch_size": 16,
    "num_channels": 3,
    "is_hybrid": False,
    "qkv_bias": True,
    "backbone_out_indices": [2, 5, 8, 11],
    "readout_type": "project",
    "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [96, 192, 384, 768],
    "fusion_hidden_size": 256,
    "head_in_index": -1,
    "use_batch_norm_in_fusion_residual": False,
    "add_projection": False,
}
_BIT_DEFAULTS: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "preactivation",
    "global_padding": None,
    "embedding_dynamic_padding": False,
    "num_groups": 32,
    "width_factor": 1,
}
_FREE = ("layer_norm_eps", "image_size")  # the specification follows the file in these


def adapt_to_config(spec: ModelSpec, config: Mapping[str, Any], source: Path) -> ModelSpec:
    """``spec`` with the layer-norm epsilon and position grid of a Hugging Face ``config.json``.

    Published folders keep the library's default epsilon of 1e-12 where the original has 1e-6.

    Raises:
        BadFileError: the configuration is of another network; the message names the key and both values.
    """
    found = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    expected = describe(spec)
    if found["num_hidden_layers"] == _last_block(spec) + 1:  # a folder of ours ends with the last tap
        expected["num_hidden_layers"] = found["num_hidden_layers"]
    _compare(expected, found, source, spec.name)
    backbone = found.get("backbone_config")
    if spec.encoder.kind == "hybrid" and isinstance(backbone, dict):
        _compare(_describe_bit(spec), _bit_found(backbone, len(spec.encoder.stage_blocks)), source, spec.name)
    eps = found["layer_norm_eps"]
    if not isinstance(eps, float | int) or isinstance(eps, bool):
        raise BadFileError(f"{source}: config.json has layer_norm_eps = {eps!r}; expected a number", hint=_HINT)
    grid = _grid(found["image_size"], spec.encoder.patch, source)
    return replace(spec, encoder=replace(spec.encoder, norm_eps=float(eps), grid=grid))


_HINT = "choose the --backbone (and --task) that the folder was made for"


def _last_block(spec: ModelSpec) -> int:
    return max((tap for tap in spec.taps if isinstance(tap, int)), default=-1)


def _bit_found(config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    found = {**_BIT_DEFAULTS, **config}
    found["global_padding"] = str(found["global_padding"]).lower()
    for key in ("hidden_sizes", "depths"):  # those of stages that are not built do not count
        found[key] = found[key][:stages] if isinstance(found[key], list) else found[key]
    return found


def _grid(size: Any, patch: int, source: Path) -> int:
    """Side of the position table, in patches."""
    sides = size if isinstance(size, list) and size else [size]
    if not isinstance(sides[0], int) or len(set(sides)) != 1 or sides[0] % patch:
        raise BadFileError(
            f"{source}: config.json has image_size = {size!r}; expected a square of {patch}-pixel patches", hint=_HINT
        )
    return int(sides[0] // patch)


def _compare(expected: Mapping[str, Any], found: Mapping[str, Any], source: Path, name: str) -> None:
    for key, value in expected.items():
        if key not in _FREE and found.get(key) != value:
            raise BadFileError(
                f"{source}: config.json has {key} = {found.get(key)!r}; {name!r} has {value!r}",
                hint=_HINT,
            )


def describe(spec: ModelSpec) -> dict[str, Any]:
    """The keys of ``config.json`` that fix the network, in Hugging Face's terms."""
    encoder = spec.encoder
    hybrid = encoder.kind == "hybrid"
    return {
        "model_type": "dpt",
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": 4 * encoder.width,
        "hidden_act": "gelu",
        "layer_norm_eps": encoder.norm_eps,
        "image_size": encoder.grid * encoder.patch,
        "patch_size": encoder.patch,
        "num_channels": 3,
        "is_hybrid": hybrid,
        "qkv_bias": True,
        # Of a hybrid the first two entries are placeholders for the stages.
        "backbone_out_indices": [tap if isinstance(tap, int) else level for level, tap in enumerate(spec.taps)],
        "readout_type": spec.readout,
        "reassemble_factors": [
            1 if isinstance(tap, str) else _whole(encoder.patch / reduction)
            for tap, reduction in zip(spec.taps, REDUCTIONS, strict=True)
        ],
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": spec.task == "segmentation",
        "add_projection": False,
    }


def _whole(value: float) -> float:
    """Without a decimal point where it needs none, as the library's own files have it."""
    return int(value) if value == int(value) else value


def _describe_bit(spec: ModelSpec) -> dict[str, Any]:
    return {
        "model_type": "bit",
        "embedding_size": spec.encoder.stem_channels,
        "hidden_sizes": list(spec.encoder.stage_channels),
        "depths": list(spec.encoder.stage_blocks),
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "num_groups": 32,
        "width_factor": 1,
    }


def save_huggingface(model: DPT, folder: Path, *, image: ImageSpec | None = None) -> None:
    """Write a folder that ``DPTForDepthEstimation`` or ``DPTForSemanticSegmentation`` ``.from_pretrained`` loads.

    ``config.json`` is written last, so a folder cut short does not load. With ``image``, its
    ``preprocessor_config.json`` states the model's own rule (aspect kept, multiples of the stride).

    Parameters that Hugging Face's classes have and a DPT never uses are not part of our models; they are filled so
    that every key is there: the final ``layernorm`` and batch norms with the identity, the coarsest level's
    ``residual_layer1`` and the auxiliary head of segmentation with zeros. They do not touch the output.

    Raises:
        UsageError: Hugging Face's DPT cannot express this network; the message says what it lacks.
        ResourceError: the folder is not writable, or the disk is full.
    """
    spec = model.spec
    obstacle = _obstacle(spec, image)
    if obstacle:
        raise UsageError(
            f"Hugging Face's DPT has no {obstacle}, which {spec.name!r} needs",
            hint="save it in this program's own format",
        )
    tensors = dict(pair for name, tensor in model.state_dict().items() for pair in _renamed(spec, name, tensor))
    tensors |= _dead_parameters(spec, tensors)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # an older one would vouch for weights half replaced
    save_tensors(tensors, folder / "model.safetensors", {"format": "pt"})
    if image is not None:
        _write_json(folder / "preprocessor_config.json", _preprocessor(spec, image))
    _write_json(folder / "config.json", _config(spec))


def _obstacle(spec: ModelSpec, image: ImageSpec | None) -> str | None:
    """What this network has and Hugging Face's classes cannot express."""
    encoder = spec.encoder
    blocks = [tap for tap in spec.taps if isinstance(tap, int)]
    stages = [tap for tap in spec.taps if isinstance(tap, str)]
    hybrid = encoder.kind == "hybrid"
    stages_fit = stages == ["stage0", "stage1"] and len(encoder.stage_blocks) == len(_BIT_STAGES)
    checks = {
        "convolutional encoder": encoder.kind == "cnn",
        "MiDaS 2.1 decoder": spec.decoder != "dpt",
        "second leading token": encoder.prefix_tokens != 1,
        "metric tail": spec.metric is not None,
        "weight standardisation of timm 0.4.5": hybrid and encoder.weight_standardisation != "sqrt",
        "taps out of order": any(first >= second for first, second in pairwise(blocks)),
        "hybrid with other taps than two stages and two blocks": hybrid and not stages_fit,
        "hybrid with another read-out than 'project'": hybrid and spec.readout != "project",
        "resize rule other than 'minimal'": image is not None and image.resize != "minimal",
    }
    return next((what for what, needed in checks.items() if needed), None)


_BIT_STAGES = ("stage1", "stage2", "stage3")


def _renamed(spec: ModelSpec, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """One of our tensors under Hugging Face's names: itself, or its pieces (query, key, value)."""
    sources = HUGGINGFACE[spec.task].sources(name)
    if name.startswith("encoder.embed.proj."):  # the one name that depends on the kind of encoder
        hybrid = spec.encoder.kind == "hybrid"
        sources = [(key, rule) for key, rule in sources if hybrid != ("patch_embeddings" in key)]
    return [
        (key, tensor if rule.parts < 2 else tensor.chunk(rule.parts, dim=rule.axis)[rule.part]) for key, rule in sources
    ]


def _dead_parameters(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Neutral values under the keys that only Hugging Face's classes have."""
    width = spec.encoder.width
    dead = {"dpt.layernorm.weight": torch.ones(width), "dpt.layernorm.bias": torch.zeros(width)}
    unit = "neck.fusion_stage.layers.{}.residual_layer1."
    for key, tensor in tensors.items():
        if key.startswith(unit.format(1)):
            dead[key.replace(unit.format(1), unit.format(0))] = _neutral(key, tensor)
        elif spec.task == "segmentation" and key.startswith("head."):
            dead[f"auxiliary_{key}"] = _neutral(key, tensor)
    return dead


def _neutral(key: str, tensor: Tensor) -> Tensor:
    batch_norm = tensor.ndim == 1 and key.endswith((".weight", ".running_var"))
    return torch.ones_like(tensor) if batch_norm else torch.zeros_like(tensor)


def _config(spec: ModelSpec) -> dict[str, Any]:
    depth = spec.task == "depth"
    config: dict[str, Any] = {
        **describe(spec),
        "architectures": ["DPTForDepthEstimation" if depth else "DPTForSemanticSegmentation"],
        "num_hidden_layers": _last_block(spec) + 1,
        "dtype": "float32",
    }
    if not depth:
        labels = {str(index): f"LABEL_{index}" for index in range(spec.num_classes)}
        config |= {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}
        config["use_auxiliary_head"] = True
    if spec.encoder.kind == "hybrid":
        grid, channels = spec.encoder.grid, spec.encoder.stage_channels
        config["backbone_featmap_shape"] = [1, channels[-1], grid, grid]
        config["neck_ignore_stages"] = [0, 1]
        config["backbone_config"] = {**_describe_bit(spec), "out_features": list(_BIT_STAGES)}
    return config


def _preprocessor(spec: ModelSpec, image: ImageSpec) -> dict[str, Any]:
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": image.height, "width": image.width},
        "keep_aspect_ratio": image.keep_aspect,
        "ensure_multiple_of": spec.stride,
        "resample": _BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    atomic_write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
