"""Random weights for comparisons: the outputs span a range at every size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dpt_deploy.core.spec import Activation, ModelSpec
from dpt_deploy.model.build import build
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.encoders.nextvit import NextConvBlock, NextTransformerBlock
from dpt_deploy.model.initial import NORMS

_PROBE_SIZES = ((128, 128), (96, 160))  # two sizes, so that the output scale is not that of one position grid
# Mean in standard deviations, and standard deviation, of the output before its activation: ReLU cuts next to nothing
# and the span stays wide, a sigmoid does not saturate, and an exponential stays within one or two powers of ten.
_BEFORE: dict[Activation, tuple[float, float]] = {"relu": (3.5, 1.0), "sigmoid": (0.0, 1.0), "exp": (0.0, 0.5)}
_CALM = 0.3  # gain of norms in front of residual branches
_TAIL_SPREAD = 4.0  # of a metric tail's input, in units of shift / scale: what the tail adds must not drown it


def random_model(spec: ModelSpec, *, seed: int = 0) -> DPT:
    """The network of ``spec`` with random weights for timing and parity work; it has learned nothing.

    Weights are drawn from ``N(0, 1/fan_in)`` (positions from ``N(0, 0.02²)`` scaled up to matter, biases from
    ``N(0, 0.02²)``), each tensor from its own generator seeded by ``seed`` and its name. Default initialisations often
    give an all-zero or flat output, which would agree with anything; so the last convolution is rescaled such that on
    a fixed probe image the output before its ReLU has a mean of 3.5 standard deviations. That keeps the span of the
    output above half of its largest value on all but the smallest images, which see only a few tokens. Other
    activations have means and deviations of their own.
    """
    model = build(spec).to_empty(device="cpu")
    norms = {name for name, module in model.named_modules() if isinstance(module, NORMS)}
    for name, tensor in model.state_dict().items():
        _fill(tensor, name, seed, norm=name.rpartition(".")[0] in norms)
    _calm_blocks(model)
    shift = _BEFORE[spec.activation][0] if spec.task == "depth" else 0.0
    _calibrate_output(model, model.landmarks.last, seed, shift=shift)
    for last in model.landmarks.joint:
        _calibrate_output(model, last, seed)
    return model


def _calm_blocks(model: DPT) -> None:
    """Lower the gains of batch norms in the residual branches of Next-ViT, whose statistics here normalise nothing.

    Dozens of branches would otherwise raise the values until attention is decided by rounding.
    """
    for module in model.modules():
        if isinstance(module, NextConvBlock):
            norms = [module.mhca.norm, module.norm]
        elif isinstance(module, NextTransformerBlock):
            norms = [module.mhca.norm, module.norm1, module.norm2]
        else:
            continue
        for norm in norms:
            norm.weight.mul_(_CALM)


def _fill(tensor: Tensor, name: str, seed: int, *, norm: bool) -> None:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + _name_hash(name)) % 2**63)
    leaf = name.rpartition(".")[2]
    if not tensor.is_floating_point():
        tensor.zero_()  # BatchNorm's step counter
    elif leaf in ("gamma", "gamma_1", "gamma_2"):  # gains of a block's parts
        tensor.uniform_(0.6, 1.4, generator=generator)
    elif leaf == "logit_scale":  # logarithm of a factor of 5 to 20
        tensor.uniform_(1.6, 3.0, generator=generator)
    elif leaf == "running_var" or (norm and leaf == "weight"):
        tensor.uniform_(0.8, 1.2, generator=generator)
    elif tensor.ndim < 2:
        tensor.normal_(0.0, 0.02, generator=generator)
    elif leaf in ("table", "prefix", "registers"):
        tensor.normal_(0.0, 0.5, generator=generator)
    else:
        fan_in = tensor[0].numel()
        tensor.normal_(0.0, 1.0 / math.sqrt(fan_in), generator=generator)


def _name_hash(name: str) -> int:
    value = 0
    for char in name.encode():
        value = (value * 257 + char) % (2**31 - 1)
    return value


def _calibrate_output(model: DPT, name: str, seed: int, *, shift: float = 0.0) -> None:
    """Rescale a last convolution from statistics of its own output on the probe images; ``shift`` is in deviations."""
    last = model.get_submodule(name)
    if not isinstance(last, nn.Conv2d):
        raise TypeError(f"the last layer of {model.spec.name} is a {type(last).__name__}; expected a convolution")
    seen: list[Tensor] = []
    handle = last.register_forward_hook(lambda _m, _i, output: seen.append(output.detach()))
    only = model.spec.only_size
    with torch.inference_mode():
        for height, width in _PROBE_SIZES if only is None else ((only.height, only.width),):
            model(_probe(height, width, seed))
    handle.remove()
    values = torch.cat([output.transpose(0, 1).flatten(1) for output in seen], dim=1)
    spread, mean = torch.std_mean(values, dim=1)
    target = _target_spread(model.spec) if name == model.landmarks.last else 1.0
    gain = target / spread.clamp_min(1e-12)
    with torch.no_grad():
        last.weight.mul_(gain[:, None, None, None])
        if last.bias is not None:
            last.bias.sub_(mean).mul_(gain).add_(shift * target)


def _target_spread(spec: ModelSpec) -> float:
    """Standard deviation before the activation: that of its kind, or large enough that a metric tail's depth varies."""
    return _TAIL_SPREAD * spec.metric.shift / spec.metric.scale if spec.metric else _BEFORE[spec.activation][1]


def _probe(height: int, width: int, seed: int) -> Tensor:
    """A fixed image of smooth shapes and texture in [-1, 1], (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed + 1)
    coarse = torch.rand((1, 3, 6, 6), generator=generator) * 2 - 1
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return (smooth + 0.2 * torch.randn((1, 3, height, width), generator=generator)).clamp(-1, 1)
