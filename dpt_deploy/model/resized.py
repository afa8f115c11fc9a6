"""Weights of a network with patches of one size, as a start for the same network with patches of another."""

from __future__ import annotations

from dataclasses import replace

from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from dpt_deploy.core.encoders import ViTSpec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.initial import fresh_model

_PATCHES = "encoder.embed.proj.weight"
_POSITIONS = "encoder.position.table"


def same_but_for_patches(one: ModelSpec, other: ModelSpec) -> bool:
    """Return True if two plain transformers differ only in patch, grid, name and the rule that resizes positions."""
    first, second = one.encoder, other.encoder
    if not (isinstance(first, ViTSpec) and isinstance(second, ViTSpec)):
        return False
    common = replace(second, patch=first.patch, grid=first.grid, position_resize=first.position_resize)
    return replace(other, name=one.name, encoder=common) == one


def with_patches(source: DPT, spec: ModelSpec, *, seed: int) -> tuple[DPT, tuple[str, ...]]:
    """The network of ``spec``, to be trained, with the weights of ``source``; and the keys that are initialised.

    The patch embedding is resampled by the pseudo-inverse of bilinear interpolation (Beyer et al., "FlexiViT", CVPR
    2023, section 3.4): where patches grow, an image enlarged alike gives the tokens it gave before; where they shrink,
    a patch reduced alike gives about those, since a smaller patch cannot tell as much. Positions are interpolated.
    A convolution that makes of tokens a map of another resolution (paper Eq. 1) begins as
    :func:`~dpt_deploy.model.initial.fresh_model` does where its shape is another; one of the same shape is kept.

    Raises:
        BadFileError: the networks differ in more than patch and grid.
    """
    encoder = spec.encoder
    if not isinstance(encoder, ViTSpec) or not same_but_for_patches(source.spec, spec):
        raise BadFileError(
            f"{source.spec.name!r} and {spec.name!r} differ in more than patches and their grid",
            hint="start from weights of the same network",
        )
    model, learned = fresh_model(spec, seed=seed), source.state_dict()
    learned[_PATCHES] = resample_patch_embed(learned[_PATCHES], [encoder.patch] * 2)
    learned[_POSITIONS] = resample_abs_pos_embed(
        learned[_POSITIONS], [encoder.grid] * 2, num_prefix_tokens=encoder.prefix_tokens
    )
    state = model.state_dict()
    kept: dict[str, Tensor] = {
        key: value for key, value in learned.items() if key in state and value.shape == state[key].shape
    }
    model.load_state_dict(state | kept)
    return model, tuple(sorted(state.keys() - kept.keys()))
