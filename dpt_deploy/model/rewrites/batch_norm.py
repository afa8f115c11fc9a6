"""Batch norms folded into the linear layer behind or in front of them: constants at inference, folded in float64."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dpt_deploy.model.encoders.norms import HasPreNorms, LinearNorm

Linear = nn.Linear | nn.Conv2d


def fold_behind(module: nn.Module) -> None:
    """Fold each batch norm of ``module`` into the convolution registered just before it."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous and isinstance(previous[1], nn.Conv2d | nn.ConvTranspose2d):
            setattr(module, previous[0], _conv_with_batch_norm(previous[1], child))
            setattr(module, name, nn.Identity())
        previous = (name, child)


def _conv_with_batch_norm(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> nn.Module:
    transposed = isinstance(conv, nn.ConvTranspose2d)
    double, norm = copy.deepcopy(conv).double(), copy.deepcopy(norm).double()
    fused = torch.nn.utils.fuse_conv_bn_eval(double, norm, transpose=transposed)
    return fused.to(conv.weight.dtype).requires_grad_(False)


def folded_linear(block: LinearNorm) -> nn.Linear:
    """One linear layer with a bias, instead of a linear layer and a batch norm."""
    scale, shift = affine_of(block.norm)
    weight = block.linear.weight.detach()
    made = nn.Linear(block.linear.in_features, block.linear.out_features, device="meta")
    made.weight = _parameter(weight.double() * scale[:, None], weight.dtype)
    made.bias = _parameter(shift, weight.dtype)
    return made


def fold_in_front(module: HasPreNorms) -> None:
    """Fold the batch norms that ``module`` names into the layers that read them."""
    owner = cast("nn.Module", module)
    for name, readers in module.pre_norms:
        norm = owner.get_submodule(name)
        if not isinstance(norm, _BatchNorm):
            continue  # a block without it
        scale, shift = affine_of(norm)
        for reader in readers:
            layer = owner.get_submodule(reader)
            kernel = layer.kernel_size if isinstance(layer, nn.Conv2d) else (1, 1)
            if not isinstance(layer, Linear) or kernel != (1, 1):
                size = f" of {kernel[0]}x{kernel[1]}" if isinstance(layer, nn.Conv2d) else ""
                raise TypeError(
                    f"{reader} is a {type(layer).__name__}{size}; expected a linear layer or a 1x1 convolution"
                )
            _replace(owner, reader, _behind_affine(layer, scale, shift))
        _replace(owner, name, nn.Identity())


def affine_of(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The scale and the shift that a batch norm applies to each channel at inference, in float64."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise TypeError("a batch norm has no statistics")
    scale = norm.weight.detach().double() * (variance.double() + norm.eps).rsqrt()
    return scale, norm.bias.detach().double() - mean.double() * scale


def _behind_affine(layer: Linear, scale: Tensor, shift: Tensor) -> Linear:
    """The layer that returns for ``x`` what ``layer`` returns for ``scale * x + shift``."""
    weight = layer.weight.detach()
    shape = (1, -1) + (1,) * (weight.ndim - 2)
    bias = weight.double().flatten(1) @ shift
    if layer.bias is not None:
        bias = bias + layer.bias.detach().double()
    made: Linear
    if isinstance(layer, nn.Linear):
        made = nn.Linear(layer.in_features, layer.out_features, device="meta")
    else:
        made = nn.Conv2d(layer.in_channels, layer.out_channels, kernel_size=1, device="meta")
    made.weight = _parameter(weight.double() * scale.reshape(shape), weight.dtype)
    made.bias = _parameter(bias, weight.dtype)
    return made


def _parameter(values: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(values.to(dtype), requires_grad=False)


def _replace(owner: nn.Module, name: str, made: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(owner.get_submodule(parent), leaf, made)
