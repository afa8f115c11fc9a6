"""Initial weights of a network that is to be trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.build import build
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.encoders.levit import AttentionBias
from dpt_deploy.model.encoders.vit import PositionEmbedding
from dpt_deploy.model.fusion import ResidualConvUnit

# Parameters that belong to no layer of PyTorch: tables of relative positions (BEiT, Swin), gains of a block's parts
# (BEiT's initial 0.1, DINOv2), biases of queries and values, and the logarithm of a scale (Swin V2).
_OF_NO_LAYER = {
    "table": 0.0,
    "gamma": 0.1,
    "gamma_1": 0.1,
    "gamma_2": 0.1,
    "q_bias": 0.0,
    "v_bias": 0.0,
    "logit_scale": math.log(10.0),
}


def fresh_model(spec: ModelSpec, *, seed: int = 0) -> DPT:
    """The network of ``spec`` to be trained from scratch, in training mode: usual initialisations, seeded.

    Linear layers and read-out tokens from a normal distribution of deviation 0.02 cut at two deviations (ViT),
    convolutions after He et al. 2015, norms at identity, positions as sines (:func:`_sine_table`), biases of attention
    at zero; see
    :func:`_calm_start` for the decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    model = build(spec).to_empty(device="cpu")
    for module in model.modules():
        _initialise(module, generator)
    for name, tensor in model.named_parameters():
        if name.endswith(("prefix", "registers")):
            nn.init.trunc_normal_(tensor, std=0.02, a=-0.04, b=0.04, generator=generator)
        elif (leaf := name.rpartition(".")[2]) in _OF_NO_LAYER:
            nn.init.constant_(tensor, _OF_NO_LAYER[leaf])
    for module in model.modules():
        if isinstance(module, PositionEmbedding):
            _, rows, width = module.table.shape
            module.table.data.copy_(_sine_table(rows, width, module.grid))
        elif isinstance(module, AttentionBias):
            nn.init.zeros_(module.table)
    _calm_start(model)
    return model.requires_grad_(True).train()


def _sine_table(rows: int, width: int, grid: int) -> Tensor:
    """Positions (rows, width) to begin with: zeros for the leading tokens, then sines and cosines of column and row.

    From small random numbers a short training leaves positions too faint to matter, and a defect in them unnoticed.
    Wavelengths run from four patches to four times the grid in geometric steps, as loud as the patches themselves.
    """
    frequency = torch.logspace(-1, -math.log2(2 * grid), width // 4, base=2) * math.pi
    axis = torch.arange(grid)[:, None] * frequency
    waves = torch.cat((axis.sin(), axis.cos()), dim=1)  # (grid, width / 2)
    columns, down = waves.repeat(grid, 1), waves.repeat_interleave(grid, dim=0)
    table = torch.zeros(rows, width)
    table[rows - grid * grid :, : 4 * (width // 4)] = torch.cat((columns, down), dim=1)
    return table


def _calm_start(model: DPT) -> None:
    """Residual units of the decoder begin as the identity, and the depth output as 1 give or take a little.

    Without that the sum of units grows from level to level, most of the output starts below the final ReLU, and a loss
    that does not see scale and shift never brings it back.
    """
    for module in model.modules():
        if isinstance(module, ResidualConvUnit):
            nn.init.zeros_(module.conv2.weight)
    last = model.get_submodule(model.landmarks.last)
    if model.spec.task == "depth" and isinstance(last, nn.Conv2d) and last.bias is not None:
        with torch.no_grad():
            last.weight.mul_(0.03)
        nn.init.ones_(last.bias)


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    elif isinstance(module, NORMS):
        nn.init.ones_(module.weight)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter):
        nn.init.zeros_(bias)


NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)
