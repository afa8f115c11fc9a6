"""Attacks bounded in the maximum norm: FGSM, PGD and MI-FGSM, and noise of equal size. Needs PyTorch.

FGSM: Goodfellow et al., "Explaining and harnessing adversarial examples" (ICLR 2015), Eq. 1. PGD: Madry et al.,
"Towards deep learning models resistant to adversarial attacks" (ICLR 2018), section 2.1. MI-FGSM: Dong et al.,
"Boosting adversarial attacks with momentum" (CVPR 2018), algorithm 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.jobs.attack.objectives import as_tensor
from dpt_deploy.jobs.attack.request import Method
from dpt_deploy.jobs.attack.strength import to_bytes

with extra("export", purpose="attacking a model"):
    import torch
    from torch import Tensor

Loss = Callable[[Tensor], Tensor]  # of the image (1, 3, H, W) in 0..1; attacks raise it

_DECAY = 1.0  # of the momentum
_OVERSHOOT = 2.5  # the steps of PGD add up to so many times the bound


@dataclass(frozen=True)
class AttackSteps:
    """Number of steps of the iterated methods, and whether PGD starts at a random point of the bound."""

    steps: int = 10
    random_start: bool = False
    seed: int = 0


def attacked(
    image: NDArray[np.uint8], loss: Loss, method: str, levels: float, how: AttackSteps, *, name: str = ""
) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) changed by at most ``levels`` of 255 in every value so that ``loss`` rises.

    With 0 levels the image is returned as it is. ``name`` and ``how.seed`` decide what is random.

    Raises:
        UsageError: the method is unknown.
    """
    if method not in get_args(Method):
        raise UsageError(
            f"method {method!r} is unknown; expected one of {', '.join(get_args(Method))}", hint="for example pgd"
        )
    if levels == 0:
        return image
    generator = np.random.default_rng([how.seed, zlib.crc32(name.encode()), int(levels)])
    if method == "noise":
        return noise(image, levels, generator)
    start = as_tensor(image)
    bound = levels / 255
    if method == "fgsm":
        found = _ascended(start, start, loss, bound, bound, 1, momentum=False)
    elif method == "mi-fgsm":
        found = _ascended(start, start, loss, bound, bound / how.steps, how.steps, momentum=True)
    else:
        first = start
        if how.random_start:
            shift = torch.from_numpy(generator.uniform(-bound, bound, tuple(start.shape)).astype(np.float32))
            first = (start + shift).clamp(0, 1)
        step = bound if how.steps == 1 else _OVERSHOOT * bound / how.steps
        found = _ascended(start, first, loss, bound, step, how.steps, momentum=False)
    return to_bytes(found[0].permute(1, 2, 0).numpy(), image, levels)


def noise(image: NDArray[np.uint8], levels: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Change every value by ``levels`` of 255, up or down by chance: as large as an attack, and blind."""
    signs = generator.integers(0, 2, image.shape) * 2 - 1
    return to_bytes((image + levels * signs) / 255, image, levels)


def _ascended(
    start: Tensor, first: Tensor, loss: Loss, bound: float, step: float, steps: int, *, momentum: bool
) -> Tensor:
    """Climb ``loss`` by steps of equal size in every value, within ``bound`` of ``start`` and within 0..1."""
    low, high = (start - bound).clamp(0, 1), (start + bound).clamp(0, 1)
    here, direction = first, torch.zeros_like(start)
    for _ in range(steps):
        here = here.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(here), here)
        if momentum:
            slope = slope / slope.abs().mean().clamp_min(1e-12)
            direction = _DECAY * direction + slope
        else:
            direction = slope
        here = torch.minimum(torch.maximum(here.detach() + step * direction.sign(), low), high)
    return here.detach()
