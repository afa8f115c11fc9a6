"""The MiDaS networks on Next-ViT, LeViT and EfficientNet-Lite: recipes, checkpoints in their published layouts."""

from __future__ import annotations

import math

import torch
from support.midas_checkpoints import levit, midas21_small, next_vit

RECIPES = {"tiny-nextvit": "next-vit-large-384", "tiny-levit": "levit-224", "tiny-midas-small": "midas-v21-small"}
PUBLISHED = {"next-vit-large-384": next_vit, "levit-224": levit, "midas-v21-small": midas21_small}
TINY_SHAPES = {
    "tiny-nextvit": lambda: next_vit(
        (16, 8, 16), (1, 2, 2, 2), (16, 24, 24, 32), (16, 32, 32, 48), (0, 24, 24, 40), 2, 8, 32
    ),
    "tiny-levit": lambda: levit((32, 48, 64), (1, 1, 1), (2, 3, 4), 8, 96, 32),
    "tiny-midas-small": lambda: midas21_small(8, (1, 1, 2, 1, 1, 1, 1), (8, 8, 16, 16, 24, 24, 32), 16),
}
SIZES = {"tiny-nextvit": ((64, 96), (32, 160)), "tiny-levit": ((96, 96),), "tiny-midas-small": ((64, 96), (32, 160))}


def drawn(shapes, seed=0):
    """Seeded values of a sane scale: batch norms have statistics of their own, and depth is positive."""
    generator = torch.Generator().manual_seed(seed)
    state = {key: _draw(key, shape, generator) for key, shape in shapes.items()}
    if "scratch.output_conv.4.bias" in state:
        state["scratch.output_conv.4.bias"].fill_(4.0)
    return state


def _draw(key, shape, generator):
    leaf = key.rpartition(".")[2]
    if leaf in ("num_batches_tracked", "attention_bias_idxs"):
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == "running_var":
        return torch.empty(shape).uniform_(0.5, 1.5, generator=generator)
    if len(shape) == 1 and leaf == "weight":
        return torch.empty(shape).uniform_(0.3, 0.8, generator=generator)
    deviation = 0.2  # of vectors
    if leaf == "attention_biases":
        deviation = 1.5
    elif len(shape) > 1:  # linear layers, and convolutions in front of a ReLU
        deviation = ((1 if len(shape) == 2 else 2) / math.prod(shape[1:])) ** 0.5
    return torch.empty(shape).normal_(0, deviation, generator=generator)


def randomise(module, seed=0):
    """Give a module such values in place."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in module.state_dict().items():
        tensor.copy_(_draw(key, tensor.shape, generator))
    return module.requires_grad_(False).eval()


def image(height, width, batch=2, seed=0):
    return torch.randn((batch, 3, height, width), generator=torch.Generator().manual_seed(seed))


def distance(found, expected):
    """Largest difference, in the range of the expected values."""
    return float((found - expected).abs().max() / (expected.max() - expected.min()))
