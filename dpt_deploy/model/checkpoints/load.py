"""Load a checkpoint into a model, strictly: every key is used, unused with a reason, or an error.

The model is built on the meta device and the file's tensors are put in its place, so that loading costs the weights
once and no time for an initialisation that would be overwritten.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.build import build
from dpt_deploy.model.checkpoints.match import (
    COUNTER,
    KeyMatch,
    Pieces,
    check_task,
    match_keys,
    mismatch_error,
    recipes_alike,
)
from dpt_deploy.model.checkpoints.read import Checkpoint, read_checkpoint, save_tensors
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.families.family import Family
from dpt_deploy.model.families.native import header_of, spec_in_header
from dpt_deploy.model.families.registry import detect, families, foreign


def load_weights(spec: ModelSpec, source: Path, *, entry: str = "", alike: bool = False) -> tuple[DPT, KeyMatch]:
    """The network of ``spec`` with the weights of ``source``, in float32, for inference; and the use of each key.

    ``source`` is a file of torch.save or safetensors, or a Hugging Face folder; ``entry`` names one of several networks
    in a training checkpoint, such as ``model_ema``. Some numbers, such as the epsilon of
    layer norm, are in no tensor. Where the folder's configuration or the file's header has them, they replace those of
    ``spec``; ``model.spec`` is the result. With ``alike`` the use of the keys names the other recipes that fit.

    Raises:
        BadFileError: not a checkpoint, damaged, would run code, not finite, or its configuration contradicts ``spec``.
        CheckpointMismatchError: keys missing, unexpected or of the wrong shape.
    """
    checkpoint = read_checkpoint(source, entry)
    family = _family_of(checkpoint, spec)
    model, matched = _assemble(family.adapt(spec, checkpoint), checkpoint, family)
    others = recipes_alike(spec, checkpoint, _shapes(checkpoint), family) if alike else ()
    return model, replace(matched, alike=tuple(others))


def load_native(path: Path) -> tuple[DPT, KeyMatch]:
    """The network in a file of :func:`save_native`, as its header describes it; raises as :func:`load_weights` does."""
    checkpoint = read_checkpoint(path)
    spec = spec_in_header(checkpoint)
    if spec is None:
        raise BadFileError(
            f"{path} does not say which network it holds", hint="only files of save_native do; name the network instead"
        )
    return _assemble(spec, checkpoint, _family_of(checkpoint, spec))


def native_spec(path: Path) -> ModelSpec | None:
    """The network that a file of :func:`save_native` says it holds; None for any other checkpoint."""
    return spec_in_header(read_checkpoint(path))


def save_native(model: DPT, path: Path, *, half: bool = False, exact: str | None = None) -> None:
    """Write ``model`` as safetensors with its specification in the header, atomically.

    ``half`` rounds to float16, except tensors whose names begin with ``exact``, if that would change them: with an
    empty ``exact`` the network stays the same, bit for bit.

    Raises:
        ResourceError: the folder is not writable, or the disk is full.
    """
    tensors = model.state_dict()
    if half:
        tensors = {
            key: _rounded(value, exactly=exact is not None and key.startswith(exact)) for key, value in tensors.items()
        }
    save_tensors(dict(tensors), path, header_of(model.spec))


def _rounded(tensor: Tensor, *, exactly: bool) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    rounded = tensor.half()
    return tensor if exactly and not rounded.to(tensor.dtype).equal(tensor) else rounded


def _family_of(checkpoint: Checkpoint, spec: ModelSpec) -> Family:
    family = detect(checkpoint.tensors, spec.task)
    if family is None:
        found = foreign(checkpoint.tensors) or f"its keys are like {', '.join(list(checkpoint.tensors)[:3])}"
        known = ", ".join(dict.fromkeys(family.name for family in families()))
        raise BadFileError(
            f"{checkpoint.source} is not a checkpoint of a known DPT: {found}",
            hint=f"known families: {known} (MiDaS 3.0 is isl-org/DPT; dpt-deploy is this program's own files)",
        )
    check_task(spec, checkpoint.source, _shapes(checkpoint), family)
    return family


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in checkpoint.tensors.items()}


def _assemble(spec: ModelSpec, checkpoint: Checkpoint, family: Family) -> tuple[DPT, KeyMatch]:
    shapes = _shapes(checkpoint)
    matched, sources = match_keys(spec, shapes, family)
    matched = replace(
        matched,
        files=checkpoint.files,
        unused=matched.unused + checkpoint.unused,
        entry=checkpoint.entry,
        others=checkpoint.others,
    )
    if not matched.fits:
        raise mismatch_error(spec, checkpoint.source, shapes, family, matched)
    return _fill(spec, sources, checkpoint), matched


def _fill(spec: ModelSpec, sources: Pieces, checkpoint: Checkpoint) -> DPT:
    model = build(spec)
    state: dict[str, Tensor] = {}
    for key in model.state_dict():
        if COUNTER in key:
            state[key] = torch.zeros((), dtype=torch.int64)
            continue
        pieces = [_checked(checkpoint, theirs) for theirs, _ in sources[key]]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=sources[key][0][1].axis)
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
