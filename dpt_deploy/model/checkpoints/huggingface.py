"""Folders that Hugging Face's ``from_pretrained`` loads, written without ``transformers``.

Keys and ``config.json`` are those of :mod:`dpt_deploy.model.families.huggingface` and ``huggingface_config``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.core.encoders import Dinov2Spec, EncoderSpec, HybridSpec, TransformerSpec
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.model.checkpoints.read import STAGED, save_tensors
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.families.backbone_config import describe_dpt_on_dinov2
from dpt_deploy.model.families.depth_anything import FOLDER as DEPTH_ANYTHING
from dpt_deploy.model.families.dinov2_config import describe_depth_anything
from dpt_deploy.model.families.dpt_dinov2 import FOLDER as DPT_ON_DINOV2
from dpt_deploy.model.families.family import Family, Rule
from dpt_deploy.model.families.huggingface import BY_TASK, IMAGE
from dpt_deploy.model.families.huggingface_config import (
    BIT_STAGES,
    describe,
    describe_bit,
    describe_padding_processor,
    describe_processor,
    last_block,
)

_IDENTITY = {"weight": torch.ones, "bias": torch.zeros}  # of a norm
_PROJECTED = 256  # channels in front of the head's first convolution, fixed in the library


def save_huggingface(model: DPT, folder: Path, *, image: ImageSpec | None = None) -> None:
    """Write a folder that Hugging Face's class for this network loads with ``.from_pretrained``.

    The class is ``DPTForDepthEstimation``, ``DPTForSemanticSegmentation`` or ``DepthAnythingForDepthEstimation``. The
    last resizes positions by a rule of its own: a network from an original file gives the same depth there at the
    training size, and slightly another one at other sizes. A depth head on DINOv2 is a ``DPTForDepthEstimation`` there,
    whose map has 32 rows for each two rows of patches: the last resize, to the image, is left to the caller.

    The files are prepared in a private folder and then replace their namesakes together, ``config.json`` last: a
    failure leaves a former folder as it was. With ``image`` the folder also has a ``preprocessor_config.json``, so that
    pipelines run. For a DPT it stretches every photograph to one square, which is what the library's forward pass
    takes. For a depth head on DINOv2 it pads, as the authors do.

    Parameters that Hugging Face's classes have and a DPT never uses are not part of this program's models; they are
    filled so that every key exists: the final ``layernorm`` and batch norms with the identity, the coarsest level's
    ``residual_layer1`` and the auxiliary head of segmentation with zeros. They do not touch the output.

    Raises:
        UsageError: Hugging Face's DPT cannot express this network; the message says what it lacks.
        ResourceError: the folder is not writable, or the disk is full.
    """
    contents = _contents(model, image)
    with staged_files(folder, STAGED) as stage:
        names = ["model.safetensors"]
        save_tensors(contents.tensors, stage / names[0], {"format": "pt"})
        if contents.preprocessor:
            names.append("preprocessor_config.json")
            _write_json(stage / names[1], contents.preprocessor)
        names.append("config.json")
        _write_json(stage / names[-1], contents.config)
        commit_files(FileSet(stage, names))


@dataclass(frozen=True)
class _Contents:
    """Contents of a folder; no ``preprocessor`` if it has none."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]


def _contents(model: DPT, image: ImageSpec | None) -> _Contents:
    if not isinstance(model.spec.encoder, Dinov2Spec):
        return _dpt(model, image)
    if model.spec.decoder == "dinov2":
        return _dpt_on_dinov2(model, model.spec.encoder, image)
    return _depth_anything(model, image)


def _dpt(model: DPT, image: ImageSpec | None) -> _Contents:
    spec, encoder = model.spec, model.spec.encoder
    obstacle = _obstacle(spec, image)
    if obstacle or not isinstance(encoder, TransformerSpec):
        raise _inexpressible("DPT", obstacle, spec)
    tensors = dict(pair for name, tensor in model.state_dict().items() for pair in _renamed(spec, name, tensor))
    tensors |= _dead_parameters(spec, encoder.width, tensors)
    return _Contents(tensors, _config(spec, encoder), {} if image is None else _preprocessor(encoder, image))


def _depth_anything(model: DPT, image: ImageSpec | None) -> _Contents:
    spec, encoder = model.spec, model.spec.encoder
    checks = {
        f"read-out {spec.readout!r}": spec.readout != "ignore",
        "registers": isinstance(encoder, Dinov2Spec) and encoder.registers > 0,
        f"activation {spec.activation!r}": spec.activation not in ("relu", "sigmoid"),
        f"task {spec.task!r}": spec.task != "depth",
    }
    obstacle = next((what for what, needed in checks.items() if needed), None)
    if obstacle or not isinstance(encoder, Dinov2Spec):
        raise _inexpressible("Depth Anything", obstacle, spec)
    tensors = _tensors_of_dinov2(model, encoder, DEPTH_ANYTHING)
    config = describe_depth_anything(spec, encoder) | {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "dtype": "float32",
    }
    preprocessor: dict[str, Any] = {}
    if image is not None:
        size = Size(image.height, image.width)
        preprocessor = describe_processor(image, size, keep_aspect=True, multiple=encoder.patch)
    return _Contents(tensors, config, preprocessor)


def _dpt_on_dinov2(model: DPT, encoder: Dinov2Spec, image: ImageSpec | None) -> _Contents:
    spec = model.spec
    checks = {
        f"read-out {spec.readout!r}": spec.readout != "project",
        "registers": encoder.registers > 0,
        "norm of the taps": encoder.tap_norm_eps > 0,
        "position rule 'offset'": encoder.position_rule != "size",
        f"activation {spec.activation!r}": spec.activation != "relu",
        f"fusion of {spec.fusion_channels} channels in front of its 256": spec.fusion_channels != _PROJECTED,
        f"task {spec.task!r}": spec.task != "depth",
    }
    obstacle = next((what for what, needed in checks.items() if needed), None)
    if obstacle:
        raise _inexpressible("DPT on DINOv2", obstacle, spec)
    tensors = _tensors_of_dinov2(model, encoder, DPT_ON_DINOV2)
    tensors |= {f"backbone.layernorm.{leaf}": make(encoder.width) for leaf, make in _IDENTITY.items()}
    config = describe_dpt_on_dinov2(spec, encoder) | {"architectures": ["DPTForDepthEstimation"], "dtype": "float32"}
    preprocessor = {} if image is None else describe_padding_processor(image, multiple=encoder.patch)
    return _Contents(tensors, config, preprocessor)


def _tensors_of_dinov2(model: DPT, encoder: Dinov2Spec, family: Family) -> dict[str, Tensor]:
    """The tensors of ``model`` in the layout of ``family``, with neutral ones for keys of it that are never used."""
    gated = encoder.feed_forward == "swiglu"
    tensors = {
        key: piece
        for name, tensor in model.state_dict().items()
        for key, piece in _pieces(_of_dinov2(name, family, gated=gated), tensor)
    }
    tensors |= _skips_of_the_coarsest(tensors)
    tensors["backbone.embeddings.mask_token"] = torch.zeros(1, encoder.width)
    return tensors


def _of_dinov2(name: str, family: Family, *, gated: bool) -> list[tuple[str, Rule]]:
    """The library's keys of one parameter: a rule for a part of a block comes before the rule for the rest of it."""
    found = [(key, rule) for key, rule in family.sources(name) if gated or ".mlp.weights_" not in key]
    return [pair for pair in found if not pair[1].theirs.endswith(".{n}.{x}")] or found


def _inexpressible(family: str, obstacle: str | None, spec: ModelSpec) -> UsageError:
    return UsageError(
        f"Hugging Face's {family} has no {obstacle}, which {spec.name!r} needs",
        hint="save it in this program's own format",
    )


def _obstacle(spec: ModelSpec, image: ImageSpec | None) -> str | None:
    """Name a part of this network that Hugging Face's classes cannot express, if any."""
    encoder = spec.encoder
    if not isinstance(encoder, TransformerSpec):
        return f"{encoder.family} encoder of kind {encoder.kind!r}"
    blocks = [tap for tap in spec.taps if isinstance(tap, int)]
    stages = [tap for tap in spec.taps if isinstance(tap, str)]
    hybrid = isinstance(encoder, HybridSpec)
    stages_fit = stages == ["stage0", "stage1"] and len(encoder.stages) == len(BIT_STAGES)
    checks = {
        f"decoder {spec.decoder!r}": spec.decoder != "dpt",
        "second leading token": encoder.prefix_tokens != 1,
        "metric tail": spec.metric is not None,
        f"activation {spec.activation!r}": spec.activation != "relu",
        "weight standardisation of timm 0.4.5": isinstance(encoder, HybridSpec)
        and encoder.weight_standardisation != "sqrt",
        "taps out of order": any(first >= second for first, second in pairwise(blocks)),
        "hybrid with other taps than two stages and two blocks": hybrid and not stages_fit,
        "hybrid with another read-out than 'project'": hybrid and spec.readout != "project",
        f"resize rule other than {IMAGE.resize!r}": image is not None and image.resize != IMAGE.resize,
    }
    return next((what for what, needed in checks.items() if needed), None)


def _renamed(spec: ModelSpec, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """One tensor under Hugging Face's names: itself, or its pieces (query, key, value)."""
    sources = BY_TASK[spec.task].sources(name)
    if name.startswith("encoder.embed.proj."):  # the one name that depends on the kind of encoder
        hybrid = isinstance(spec.encoder, HybridSpec)
        sources = [(key, rule) for key, rule in sources if hybrid != ("patch_embeddings" in key)]
    return _pieces(sources, tensor)


def _pieces(sources: list[tuple[str, Rule]], tensor: Tensor) -> list[tuple[str, Tensor]]:
    return [
        (key, tensor if rule.parts < 2 else tensor.chunk(rule.parts, dim=rule.axis)[rule.part]) for key, rule in sources
    ]


def _dead_parameters(spec: ModelSpec, width: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Neutral values under the keys that only Hugging Face's classes have."""
    dead = {f"dpt.layernorm.{leaf}": make(width) for leaf, make in _IDENTITY.items()}
    dead |= _skips_of_the_coarsest(tensors)
    if spec.task == "segmentation":
        heads = {key: tensor for key, tensor in tensors.items() if key.startswith("head.")}
        dead |= {f"auxiliary_{key}": _neutral(key, tensor) for key, tensor in heads.items()}
    return dead


def _skips_of_the_coarsest(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Neutral values of the unit for a skip that the coarsest block does not have, shaped as the next block's."""
    unit = "neck.fusion_stage.layers.{}.residual_layer1."
    return {
        key.replace(unit.format(1), unit.format(0)): _neutral(key, tensor)
        for key, tensor in tensors.items()
        if key.startswith(unit.format(1))
    }


def _neutral(key: str, tensor: Tensor) -> Tensor:
    batch_norm = tensor.ndim == 1 and key.endswith((".weight", ".running_var"))
    return torch.ones_like(tensor) if batch_norm else torch.zeros_like(tensor)


def _config(spec: ModelSpec, encoder: TransformerSpec) -> dict[str, Any]:
    depth = spec.task == "depth"
    config: dict[str, Any] = {
        **describe(spec, encoder),
        "architectures": ["DPTForDepthEstimation" if depth else "DPTForSemanticSegmentation"],
        "num_hidden_layers": last_block(spec) + 1,
        "dtype": "float32",
    }
    if not depth:
        labels = {str(index): f"LABEL_{index}" for index in range(spec.num_classes)}
        config |= {"id2label": labels, "label2id": {label: int(index) for index, label in labels.items()}}
        config["use_auxiliary_head"] = True
    if isinstance(encoder, HybridSpec):
        grid, channels = encoder.grid, encoder.stage_channels
        config["backbone_featmap_shape"] = [1, channels[-1], grid, grid]
        config["neck_ignore_stages"] = [0, 1]
        config["backbone_config"] = describe_bit(encoder)
    return config


def fixed_side(encoder: EncoderSpec) -> int | None:
    """Return the side of the only squares that Hugging Face's network takes; None if it takes any.

    Its hybrid refuses every size but that of its position grid.
    """
    return encoder.grid * encoder.patch if isinstance(encoder, HybridSpec) else None


def _preprocessor(encoder: TransformerSpec, image: ImageSpec) -> dict[str, Any]:
    """Describe the library's own preparation of a photograph.

    Its DPT reshapes tokens to a square, so the aspect cannot be kept; it would be an error for every photograph that
    is not square.
    """
    own = encoder.grid * encoder.patch
    side = fixed_side(encoder) or (image.height if image.height == image.width else own)
    return describe_processor(image, Size(side, side), keep_aspect=False, multiple=1)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    atomic_write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
