"""Hugging Face's ``config.json``: the network that it describes, and a specification that follows it.

Files keep entries that the library never reads: of a hybrid, for example, the first two of ``backbone_out_indices`` and
``reassemble_factors``. Entries are therefore compared as ``transformers`` uses them, and only those that change the
network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpt_deploy.core.encoders import HybridSpec, TransformerSpec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, ModelSpec

BIT_STAGES = ("stage1", "stage2", "stage3")  # feature maps of a hybrid's ResNet; the classes demand three

# DPTConfig's and BitConfig's own defaults, for keys that a file leaves out.
DEFAULTS: dict[str, Any] = {
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
    "neck_ignore_stages": [0, 1],
    "fusion_hidden_size": 256,
    "head_in_index": -1,
    "use_batch_norm_in_fusion_residual": False,
    "use_bias_in_fusion_residual": None,
    "add_projection": False,
    "backbone": None,
    "backbone_config": None,
}
_BIT_DEFAULTS: dict[str, Any] = {
    "model_type": "bit",
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "preactivation",
    "hidden_act": "relu",
    "global_padding": None,
    "embedding_dynamic_padding": False,
    "num_groups": 32,
    "output_stride": 32,
    "width_factor": 1,
    "out_features": None,
    "out_indices": None,
}
_HYBRID_BIT = {  # DPTConfig's for a hybrid that states no backbone
    "layer_type": "bottleneck",
    "depths": [3, 4, 9],
    "global_padding": "same",
    "embedding_dynamic_padding": True,
    "out_features": list(BIT_STAGES),
}
_AS_WRITTEN = (
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "num_channels",
    "is_hybrid",
    "qkv_bias",
    "readout_type",
    "neck_hidden_sizes",
    "fusion_hidden_size",
)
HINT = "choose the --backbone (and --task) that the folder was made for"
_SHOWN = 60  # characters of a value in a message

_BICUBIC = 3  # PIL's number, which preprocessor_config.json uses


def adapt_to_config(spec: ModelSpec, config: Mapping[str, Any], source: Path) -> ModelSpec:
    """``spec`` with those numbers of a Hugging Face ``config.json`` that no tensor shows.

    They are the layer-norm epsilon (published folders keep the library's default of 1e-12 where the original has 1e-6),
    the position grid, and the number of blocks, of which those after the last tap do not count. A hybrid's weight
    standardisation is that of the library.

    Raises:
        BadFileError: the configuration is of another network; the message names the key and both values.
    """
    encoder = spec.encoder
    if not isinstance(encoder, TransformerSpec):
        raise BadFileError(f"{source}: config.json is of a transformer; {spec.name!r} has none", hint=HINT)
    found = filled(DEFAULTS, config)
    blocks = _blocks(found, spec, source)
    expected = {**as_used(describe(spec, encoder), spec.task), "backbone_out_indices": list(spec.taps)}
    compare_entries(expected, as_used(found, spec.task), found, source, spec.name)
    if isinstance(encoder, HybridSpec):
        bit = filled(_BIT_DEFAULTS, _backbone_of(found, source))
        compare_entries(bit_as_used(describe_bit(encoder)), bit_as_used(bit), bit, source, spec.name)
        encoder = replace(encoder, weight_standardisation="sqrt")
    adapted = replace(
        encoder,
        norm_eps=epsilon_of(found["layer_norm_eps"], source),
        grid=_grid(found["image_size"], encoder.patch, source),
        depth=max(encoder.depth, blocks),
    )
    return replace(spec, encoder=adapted)


def last_block(spec: ModelSpec) -> int:
    """The last transformer block that is tapped; -1 where none is."""
    return max((tap for tap in spec.taps if isinstance(tap, int)), default=-1)


def describe(spec: ModelSpec, encoder: TransformerSpec) -> dict[str, Any]:
    """The keys of ``config.json`` that fix the network, in Hugging Face's terms."""
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
        "is_hybrid": isinstance(encoder, HybridSpec),
        "qkv_bias": True,
        # Of a hybrid the first two entries are placeholders for the stages.
        "backbone_out_indices": [tap if isinstance(tap, int) else level for level, tap in enumerate(spec.taps)],
        "readout_type": spec.readout,
        "reassemble_factors": [
            1 if isinstance(tap, str) else _whole(encoder.patch / stride)
            for tap, stride in zip(spec.taps, encoder.strides, strict=True)
        ],
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": spec.task == "segmentation",
        "add_projection": False,
    }


def describe_processor(image: ImageSpec, size: Size, *, keep_aspect: bool, multiple: int) -> dict[str, Any]:
    """The ``preprocessor_config.json`` that brings photographs to ``size``, or near it where the aspect is kept."""
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": size.height, "width": size.width},
        "keep_aspect_ratio": keep_aspect,
        "ensure_multiple_of": multiple,
        "resample": _BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def describe_padding_processor(image: ImageSpec, *, multiple: int) -> dict[str, Any]:
    """The ``preprocessor_config.json`` that pads photographs to the next ``multiple`` in place of resizing them."""
    resizing = ("size", "keep_aspect_ratio", "ensure_multiple_of", "resample")
    described = describe_processor(image, Size(image.height, image.width), keep_aspect=True, multiple=multiple)
    kept = {key: value for key, value in described.items() if key not in resizing}
    return {**kept, "do_resize": False, "do_pad": True, "size_divisor": multiple}


def describe_bit(encoder: HybridSpec) -> dict[str, Any]:
    """The keys of the hybrid's ``backbone_config``."""
    return {
        "model_type": "bit",
        "embedding_size": encoder.stem_channels,
        "hidden_sizes": list(encoder.stage_channels),
        "depths": list(encoder.stage_blocks),
        "layer_type": "bottleneck",
        "hidden_act": "relu",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "num_groups": 32,
        "width_factor": 1,
        "out_features": list(BIT_STAGES),
    }


def as_used(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The entries of ``config`` that change the network, as ``transformers`` uses them.

    Indices select blocks as a set; the first two levels of a hybrid are stages, whatever its lists say of them;
    activations, indices from the end and lists for squares have one form. A value of an unexpected type stays as it is.
    """
    config = filled(DEFAULTS, config)
    hybrid = config["is_hybrid"] is True
    first, levels = (2 if hybrid else 0), _length(config["neck_hidden_sizes"])
    batch_norm, bias = bool(config["use_batch_norm_in_fusion_residual"]), config["use_bias_in_fusion_residual"]
    taps = integers(listed(config["backbone_out_indices"])[first:])
    blocks = max([0, *integers(config["num_hidden_layers"])])
    factors, head = config["reassemble_factors"], config["head_in_index"]
    used = {key: config[key] for key in _AS_WRITTEN} | {
        "hidden_act": "gelu" if config["hidden_act"] == "gelu_python" else config["hidden_act"],
        "patch_size": square(config["patch_size"]),
        "backbone_out_indices": ["stage0", "stage1"][:first] + sorted({tap for tap in taps if 0 <= tap < blocks}),
        "reassemble_factors": [_factor(value) for value in factors[first:levels]]
        if isinstance(factors, list)
        else factors,
        "head_in_index": head % levels if isinstance(head, int) and -levels <= head < levels else head,
        "use_batch_norm_in_fusion_residual": batch_norm,
        "use_bias_in_fusion_residual": not batch_norm if bias is None else bool(bias),
    }
    if task == "depth":  # the segmentation class has neither
        used["add_projection"] = bool(config["add_projection"])
        used["backbone_config"] = None if hybrid else config["backbone_config"]
    if hybrid:
        used["neck_ignore_stages"] = sorted(set(integers(config["neck_ignore_stages"])) & set(range(levels)))
    if hybrid or task == "depth":
        used["backbone"] = config["backbone"] if config["backbone_config"] is None else None
    return used


def bit_as_used(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a hybrid's ``backbone_config`` that change the network, as ``transformers`` uses them."""
    config = filled(_BIT_DEFAULTS, config)
    stages, factor, stride = len(BIT_STAGES), config["width_factor"], config["output_stride"]
    padding, names = config["global_padding"], config["out_features"]
    if names is None:
        names = [f"stage{index}" for index in integers(config["out_indices"])]
    return {
        **{key: config[key] for key in ("model_type", "embedding_size", "layer_type", "hidden_act", "num_groups")},
        "hidden_sizes": [_times(size, factor) for size in listed(config["hidden_sizes"])[:stages]],
        "depths": listed(config["depths"])[:stages],
        "global_padding": padding.lower() if isinstance(padding, str) else padding,
        "embedding_dynamic_padding": bool(config["embedding_dynamic_padding"]),
        # The stages stand on strides 4, 8 and 16: a limit of 16 or more dilates none of them.
        "output_stride": 32 if isinstance(stride, int) and stride > 8 else stride,
        "out_features": sorted(map(str, listed(names))),
    }


def filled(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the defaults of what it leaves out or has as null."""
    return {**defaults, **{key: value for key, value in config.items() if value is not None}}


def compare_entries(
    expected: Mapping[str, Any], found: Mapping[str, Any], written: Mapping[str, Any], source: Path, name: str
) -> None:
    """Raise :class:`BadFileError` at the first difference; the message has the value as it is ``written``."""
    for key, value in expected.items():
        if found[key] != value:
            raise BadFileError(
                f"{source}: config.json has {key} = {shown(written[key])}; {name!r} has {shown(value)}", hint=HINT
            )


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _blocks(found: Mapping[str, Any], spec: ModelSpec, source: Path) -> int:
    """Number of blocks in the file: those after the last tap do not change the output."""
    count, needed = found["num_hidden_layers"], last_block(spec) + 1
    if not isinstance(count, int) or isinstance(count, bool) or count < needed:
        raise BadFileError(
            f"{source}: config.json has num_hidden_layers = {shown(count)}; {spec.name!r} needs {needed}", hint=HINT
        )
    return count


def _backbone_of(found: Mapping[str, Any], source: Path) -> Mapping[str, Any]:
    backbone = found["backbone_config"]
    if backbone is None:
        return _HYBRID_BIT
    if not isinstance(backbone, dict):
        raise BadFileError(
            f"{source}: config.json has backbone_config = {shown(backbone)}; expected an object", hint=HINT
        )
    return backbone


def epsilon_of(value: Any, source: Path) -> float:
    """The epsilon of layer norms; raises :class:`BadFileError` if it is none."""
    if not isinstance(value, float | int) or isinstance(value, bool) or not (0 <= value < 1 and math.isfinite(value)):
        raise BadFileError(
            f"{source}: config.json has layer_norm_eps = {shown(value)}; expected a number from 0 to 1", hint=HINT
        )
    return float(value)


def _grid(size: Any, patch: int, source: Path) -> int:
    """Side of the position table, in patches; a rest of pixels belongs to none."""
    side = square(size)
    if not isinstance(side, int) or isinstance(side, bool) or side < patch:
        raise BadFileError(
            f"{source}: config.json has image_size = {shown(size)}; expected a square of {patch}-pixel patches",
            hint=HINT,
        )
    return side // patch


def square(size: Any) -> Any:
    """One number for a list of two equal ones."""
    return size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size


def _factor(value: Any) -> Any:
    """A resizing factor; one below 1 acts through its stride, which is a whole number."""
    fraction = isinstance(value, float) and 0 < value < 1
    return 1 / int(1 / value) if fraction and math.isfinite(1 / value) else value


def _whole(value: float) -> float:
    """Without a decimal point where it needs none, as the library's own files have it."""
    return int(value) if value == int(value) else value


def _times(size: Any, factor: Any) -> Any:
    return size * factor if isinstance(size, int) and isinstance(factor, int) else size


def listed(value: Any) -> list[Any]:
    """A list; a single value as a list of one."""
    return value if isinstance(value, list) else [value]


def integers(value: Any) -> list[int]:
    """The whole numbers of a list."""
    return [entry for entry in listed(value) if isinstance(entry, int)]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) and value else 1
