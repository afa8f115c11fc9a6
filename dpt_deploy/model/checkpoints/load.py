"""From a checkpoint to a model, strictly: every key is used, unused on purpose with a reason, or an error.

The model is built on the meta device and the file's tensors are put in its place, so that loading costs the weights
once and no time for an initialisation that would be overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.huggingface import adapt_to_config
from dpt_deploy.model.checkpoints.keymaps import detect, foreign
from dpt_deploy.model.checkpoints.match import COUNTER, LoadReport, Plan, check_task, match_keys, mismatch_error
from dpt_deploy.model.checkpoints.read import Checkpoint, read_checkpoint, save_tensors
from dpt_deploy.model.dpt import DPT

_SPEC = "dpt_deploy.spec"  # key of the JSON specification in the header of our own files


def load_weights(spec: ModelSpec, source: Path) -> tuple[DPT, LoadReport]:
    """The network of ``spec`` with the weights of ``source``, in float32, for inference; and what became of each key.

    ``source`` is a file of torch.save or safetensors, or a Hugging Face folder. What such a folder's configuration
    (or the header of our own files) says about numbers that no tensor shows, such as the epsilon of layer norm,
    replaces what ``spec`` says; the specification in force is ``model.spec``.

    Raises:
        BadFileError: not a checkpoint, damaged, would run code, not finite, or its configuration contradicts ``spec``.
        CheckpointMismatchError: keys missing, unexpected or of the wrong shape.
    """
    checkpoint = read_checkpoint(source)
    return _assemble(_adapt(spec, checkpoint), checkpoint)


def load_native(path: Path) -> tuple[DPT, LoadReport]:
    """The network in a file of :func:`save_native`, as its header describes it; raises as :func:`load_weights` does."""
    checkpoint = read_checkpoint(path)
    spec = _native_spec(checkpoint)
    if spec is None:
        raise BadFileError(
            f"{path} does not say which network it holds", hint="only files of save_native do; name the network instead"
        )
    return _assemble(spec, checkpoint)


def native_spec(path: Path) -> ModelSpec | None:
    """The network that a file of :func:`save_native` says it holds; None for any other checkpoint."""
    return _native_spec(read_checkpoint(path))


def save_native(model: DPT, path: Path, *, half: bool = False) -> None:
    """Write ``model`` as safetensors with its specification in the header, atomically; ``half`` rounds to float16.

    Raises:
        ResourceError: the folder is not writable, or the disk is full.
    """
    metadata = {_SPEC: json.dumps(model.spec.to_dict())}
    tensors = model.state_dict()
    if half:
        tensors = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_tensors(dict(tensors), path, metadata)


def _assemble(spec: ModelSpec, checkpoint: Checkpoint) -> tuple[DPT, LoadReport]:
    shapes = {key: tuple(tensor.shape) for key, tensor in checkpoint.tensors.items()}
    family = detect(shapes)
    if family is None:
        what = foreign(shapes) or f"its keys are like {', '.join(list(shapes)[:3])}"
        raise BadFileError(
            f"{checkpoint.source} is not a checkpoint of a known DPT: {what}",
            hint="known: isl-org DPT and MiDaS 2.1/3.0, Hugging Face DPT, and this program's own files",
        )
    check_task(spec, checkpoint.source, family)
    report, plan = match_keys(spec, shapes, family)
    ignored = tuple((key, "not a tensor") for key in checkpoint.ignored)
    report = replace(report, files=checkpoint.files, unused=report.unused + ignored)
    if not report.fits:
        raise mismatch_error(spec, checkpoint.source, shapes, family, report)
    return _fill(spec, plan, checkpoint), report


def _fill(spec: ModelSpec, plan: Plan, checkpoint: Checkpoint) -> DPT:
    model = build(spec)
    state: dict[str, Tensor] = {}
    for key in model.state_dict():
        if COUNTER in key:
            state[key] = torch.zeros((), dtype=torch.int64)
            continue
        pieces = [_checked(checkpoint, theirs) for theirs, _ in plan[key]]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=plan[key][0][1].axis)
        state[key] = joined.to(torch.float32).contiguous()
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _checked(checkpoint: Checkpoint, key: str) -> Tensor:
    tensor = checkpoint.tensors[key]
    if not tensor.is_floating_point():
        raise BadFileError(
            f"{checkpoint.source}: {key} has type {str(tensor.dtype).removeprefix('torch.')}, not floating point",
            hint="give the weights before quantisation",
        )
    wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
    if wrong:
        raise BadFileError(
            f"{checkpoint.source}: {key} has {wrong:,} of {tensor.numel():,} values that are NaN or infinite",
            hint="the file is damaged, or its training diverged: take another checkpoint",
        )
    return tensor


# --- what tensors do not show -----------------------------------------------------------------------------------------


def _adapt(spec: ModelSpec, checkpoint: Checkpoint) -> ModelSpec:
    if checkpoint.config is not None:
        return adapt_to_config(spec, checkpoint.config, checkpoint.source)
    saved = _native_spec(checkpoint)
    return spec if saved is None else _adapt_to_saved(spec, saved, checkpoint.source)


def _native_spec(checkpoint: Checkpoint) -> ModelSpec | None:
    text = checkpoint.metadata.get(_SPEC)
    if text is None:
        return None
    try:
        return ModelSpec.from_dict(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise BadFileError(
            f"{checkpoint.source}: its header does not describe a network: {exc}",
            hint="written by another version of this program, or damaged",
        ) from exc


def _adapt_to_saved(spec: ModelSpec, saved: ModelSpec, source: Path) -> ModelSpec:
    """Numbers of the encoder that are free follow the file; everything else must agree.

    How positions are resized is the recipe's say: a study's control asks for the same weights with a defect planted.
    """
    encoder = replace(
        spec.encoder,
        norm_eps=saved.encoder.norm_eps,
        weight_standardisation=saved.encoder.weight_standardisation,
    )
    spec = replace(spec, encoder=encoder)
    wanted, found = _flat(spec.to_dict()), _flat(saved.to_dict())
    for key in wanted:
        if key not in ("name", "num_classes", "encoder.position_resize") and wanted[key] != found.get(key):
            raise BadFileError(
                f"{source} was saved with {key} = {found.get(key)!r}; {spec.name!r} has {wanted[key]!r}",
                hint=f"it was saved as {saved.name!r}: name that network, or another checkpoint",
            )
    return spec


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
