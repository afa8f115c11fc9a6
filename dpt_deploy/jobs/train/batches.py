"""Training batches from rendered scenes: random crops, flips and colours, determined by seed and step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dpt_deploy.jobs.train.config import Augmentation
from dpt_deploy.jobs.train.rendered import RenderedScenes


class SceneBatches:
    """Batches of ``batch`` images at ``side`` x ``side`` pixels. Step ``n`` has the same batch in every run.

    ``side`` may be a function of the step. ``mean`` and ``std`` normalise RGB in [0, 1] for the network.

    Raises:
        ValueError: ``batch`` or ``side`` is below 1.
    """

    def __init__(
        self,
        scenes: RenderedScenes,
        batch: int,
        side: int | Callable[[int], int],
        seed: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        augmentation: Augmentation,
    ) -> None:
        self._side = side if callable(side) else lambda _step: side
        if batch < 1 or self._side(0) < 1:
            raise ValueError(f"{batch} images of {self._side(0)} pixels per side; expected at least 1 of each")
        self._scenes = scenes
        self._batch, self._seed = batch, seed
        self._mean, self._std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))
        self._augmentation = augmentation

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return normalised RGB (B, 3, side, side) and the targets (B, side, side) of a step.

        Targets are float32 inverse depth in 1/m, or int64 labels, depending on the scenes.
        """
        rng = np.random.default_rng([self._seed, step])
        side = self._side(step)
        pairs = [self._one(index, side, rng) for index in self._indices(step)]
        images, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        if self._scenes.targets.dtype == np.uint8:
            targets = targets.long()
        return (images - self._mean) / self._std, targets

    def _indices(self, step: int) -> np.ndarray:
        """Every scene once per epoch, in a new random order."""
        wanted = np.arange(step * self._batch, (step + 1) * self._batch)
        epochs = [int(epoch) for epoch in wanted // self._scenes.count]
        orders = {e: np.random.default_rng([self._seed, 7, e]).permutation(self._scenes.count) for e in set(epochs)}
        return np.array([orders[e][n % self._scenes.count] for e, n in zip(epochs, wanted, strict=True)])

    def _one(self, index: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        whole = self._scenes.side
        crop = max(1, round(whole * rng.uniform(self._augmentation.smallest_crop, 1.0)))
        top, left = rng.integers(0, whole - crop + 1, 2)
        window = np.s_[top : top + crop, left : left + crop]
        image = torch.from_numpy(self._scenes.images[index][window].astype(np.float32) / 255).permute(2, 0, 1)[None]
        target = torch.from_numpy(self._scenes.targets[index][window].astype(np.float32))[None]
        size = (side, side)
        # Same kernel as for photographs at inference (cv2's INTER_CUBIC), which has no antialiasing.
        image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
        target = F.interpolate(target[None], size=size, mode="nearest-exact")[0]
        if rng.random() < 0.5:
            image, target = image.flip(3), target.flip(2)
        return _recolour(image.clamp(0, 1), rng, self._augmentation.colour), target


def _recolour(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Change exposure, contrast, white balance and saturation of RGB (1, 3, H, W) in [0, 1] at random."""
    if strength == 0:
        return image
    gamma = float(np.exp(rng.normal(0, strength)))
    contrast = float(np.exp(rng.normal(0, 0.5 * strength)))
    balance = torch.tensor(np.exp(rng.normal(0, 0.3 * strength, 3)), dtype=image.dtype).reshape(1, 3, 1, 1)
    saturation = float(np.clip(1 + rng.normal(0, 2 * strength), 0, 2))
    image = image.clamp_min(1e-4) ** gamma * balance
    image = (image - 0.5) * contrast + 0.5
    grey = image.mean(dim=1, keepdim=True)
    return (grey + saturation * (image - grey)).clamp(0, 1)
