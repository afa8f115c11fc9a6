"""Exact algebra applied before export: an equal function in fewer operations.

    rewrite                                            why it is exact
    1x1 convolution before the bilinear upsample       both are linear, and interpolation weights sum to one (bias)
    read-out projection split in two                   W [x; r] + b = W₁ x + (W₂ r + b): the second part once per image
    reassemble's 1x1 convolution as a linear map       the same product, on tokens, before they are transposed
    batch norm and weight standardisation folded       constants at inference; folded in float64
    bias of attention looked up                        a network of one size has one grid of offsets
    SAME padding made static                           every legal size is even at each stride-2 layer
    relative positions, gains of channels              see :mod:`~dpt_deploy.model.rewrites.relative`, and ``gains``

:func:`deployable` leaves the reference untouched and shares every tensor it does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from timm.layers import StdConv2dSame
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.model.encoders.dinov2 import ProductPositions
from dpt_deploy.model.encoders.efficientnet import SameConv2d
from dpt_deploy.model.encoders.hybrid import SumStdConv2dSame
from dpt_deploy.model.encoders.levit import AttentionBias
from dpt_deploy.model.encoders.nextvit import HalvingPool
from dpt_deploy.model.encoders.norms import HasPreNorms, LinearNorm
from dpt_deploy.model.encoders.vit import PositionEmbedding, resize_grid
from dpt_deploy.model.fusion import Fusion, upsample, with_skip
from dpt_deploy.model.reassemble import ProjectReadout, Reassemble
from dpt_deploy.model.rewrites import relative
from dpt_deploy.model.rewrites.batch_norm import fold_behind, fold_in_front, folded_linear
from dpt_deploy.model.rewrites.gains import DeployedProductPositions, with_folded_gains

_Network = TypeVar("_Network", bound=nn.Module)


def deployable(model: _Network) -> _Network:
    """A structural copy of ``model``, or of a part of it, that computes the same numbers with fewer operations."""
    tensors = [*model.parameters(), *model.buffers()]
    copied = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    _replace(copied)
    return copied.requires_grad_(False).eval()


def _replace(module: nn.Module) -> None:
    """Fold batch norms, then replace children, innermost first."""
    fold_behind(module)
    for name, child in list(module.named_children()):
        _replace(child)
        replacement = _rewritten(child)
        if replacement is not child:
            setattr(module, name, replacement)
    if isinstance(module, HasPreNorms):
        fold_in_front(module)


def _rewritten(module: nn.Module) -> nn.Module:
    make = next((make for kind, make in _FORMS.items() if isinstance(module, kind)), None)
    return make(module) if make else relative.rewritten(module)


def fold_weight_standardisation(conv: StdConv2dSame) -> nn.Module:
    """A plain convolution whose weights are already standardised (float64), with static padding."""
    weight = conv.weight.detach().double()
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    deviation = variance.sqrt() + 1e-5 if isinstance(conv, SumStdConv2dSame) else (variance + conv.eps).sqrt()
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False, device="meta"
    )
    folded.weight = nn.Parameter(((weight - mean) / deviation).to(conv.weight.dtype), requires_grad=False)
    return with_static_padding(folded) if conv.same_pad else folded


class DeployedBias(nn.Module):
    """:class:`AttentionBias` as the numbers (heads, queries, keys) that it looks up."""

    def __init__(self, bias: AttentionBias) -> None:
        super().__init__()
        with torch.no_grad():
            self.values = nn.Parameter(bias().contiguous(), requires_grad=False)

    def forward(self) -> Tensor:
        return self.values


def with_static_padding(conv: nn.Conv2d) -> nn.Module:
    """``conv`` behind the SAME padding of an even input: (2, 3) for a 7x7/2, (1, 2) for a 5x5/2, (0, 1) for a 3x3/2."""
    before = (conv.kernel_size[0] - conv.stride[0]) // 2
    after = conv.kernel_size[0] - conv.stride[0] - before
    if after <= 0:
        return conv
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), conv)


def with_static_same_padding(conv: SameConv2d) -> nn.Module:
    """A plain convolution behind its padding."""
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    bias = conv.bias is not None
    made = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, groups=conv.groups, bias=bias, device="meta")
    made.weight, made.bias = conv.weight, conv.bias
    return with_static_padding(made)


class DeployedPosition(nn.Module):
    """:class:`PositionEmbedding` with its grid stored as an image (1, D, g, g)."""

    def __init__(self, position: PositionEmbedding) -> None:
        super().__init__()
        table, prefix, side = position.table.detach(), position.prefix_tokens, position.grid
        grid = table[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2).contiguous()
        self.resize = position.resize
        self.grid = nn.Parameter(grid, requires_grad=False)
        self.prefix = nn.Parameter(table[:, :prefix].clone(), requires_grad=False)

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        return self.prefix, resize_grid(self.grid, height, width, self.resize).flatten(2).transpose(1, 2)


class DeployedReassemble(nn.Module):
    """:class:`Reassemble` with the read-out split, its projections on tokens, and the leading tokens dropped last."""

    def __init__(self, block: Reassemble) -> None:
        super().__init__()
        self.readout = SplitReadout(block.readout) if isinstance(block.readout, ProjectReadout) else block.readout
        self.drops_prefix = not isinstance(self.readout, SplitReadout)
        self.prefix_tokens = block.readout.prefix_tokens
        conv = block.projection
        self.projection = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
        self.projection.weight = nn.Parameter(conv.weight.detach().flatten(1), requires_grad=False)
        self.projection.bias = _parameter(conv.bias)
        self.resize = block.resize

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        patches = self.projection(self.readout(tokens))
        if not self.drops_prefix:
            patches = patches[:, self.prefix_tokens :]
        return self.resize(patches.transpose(1, 2).unflatten(2, (height, width)))


def _parameter(tensor: Tensor | None) -> nn.Parameter:
    """A bias that the original layers always have."""
    if tensor is None:
        raise TypeError("a layer of the reference has no bias")
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


class SplitReadout(nn.Module):
    """:class:`ProjectReadout` as ``gelu(W₁ x + (W₂ r + b))``; leading tokens stay in, dropped by the caller."""

    def __init__(self, readout: ProjectReadout) -> None:
        super().__init__()
        width = readout.project.out_features
        weight = readout.project.weight.detach()
        self.token = nn.Linear(width, width, bias=False, device="meta")
        self.token.weight = nn.Parameter(weight[:, :width].contiguous(), requires_grad=False)
        self.image = nn.Linear(width, width, device="meta")
        self.image.weight = nn.Parameter(weight[:, width:].contiguous(), requires_grad=False)
        self.image.bias = readout.project.bias
        self.act = readout.act

    def forward(self, tokens: Tensor) -> Tensor:
        return self.act(self.token(tokens) + self.image(tokens[:, :1]))


class DeployedFusion(nn.Module):
    """:class:`Fusion` with its 1x1 convolution on the small map, before the upsample."""

    def __init__(self, block: Fusion) -> None:
        super().__init__()
        self.skip_unit = block.skip_unit
        self.path_leads = block.path_leads
        self.unit = block.unit
        self.out_conv = block.out_conv

    def forward(self, path: Tensor, skip: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        path = with_skip(path, skip, self.skip_unit, path_leads=self.path_leads)
        return upsample(self.out_conv(self.unit(path)), size, align_corners=True)


_FORMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {  # Any: each takes the module of its key
    StdConv2dSame: fold_weight_standardisation,
    MaxPool2dSame: lambda _: nn.MaxPool2d(3, stride=2, ceil_mode=True),  # even sizes: pads (0, 1) with -inf, as SAME
    SameConv2d: with_static_same_padding,
    HalvingPool: lambda _: nn.AvgPool2d(2, stride=2),  # even sizes have no edge
    LinearNorm: folded_linear,
    AttentionBias: DeployedBias,
    ProductPositions: DeployedProductPositions,  # a kind of the next, so before it
    PositionEmbedding: DeployedPosition,
    Block: with_folded_gains,
    Reassemble: DeployedReassemble,
    Fusion: DeployedFusion,
}


class Uint8Input(nn.Module):
    """RGB bytes (B, H, W, 3) in front of a model: normalisation inside the graph (one multiply, one add)."""

    gain: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, image: ImageSpec) -> None:
        super().__init__()
        self.model = model
        mean, std = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (image.mean, image.std))
        self.register_buffer("gain", (1.0 / (255.0 * std)).float())
        self.register_buffer("offset", (-mean / std).float())

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.float().permute(0, 3, 1, 2)  # TensorRT casts bytes, and does nothing else with them
        return self.model(pixels * self.gain + self.offset)


class LabelsOutput(nn.Module):
    """The most likely class of every pixel, int32 (B, H, W), counted from 0, instead of logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values).argmax(dim=1).to(torch.int32)
