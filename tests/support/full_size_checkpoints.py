"""Checkpoints of published networks at full size: random values under keys that owe nothing to the key maps under test.

Usage: python -m support.full_size_checkpoints NETWORK PATH        (benchmarks/full_sizes.py calls it)

The keys and shapes are those of :mod:`support.midas_networks`, :mod:`support.midas31` and
:mod:`support.depth_anything_keys`; a folder of Hugging Face is written by transformers.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support import depth_anything_keys as anything
from support import focus, midas31, midas_networks
from support.dinov2 import dpt_on_dinov2

from dpt_deploy.core.recipe import load_recipe

WRITTEN_DOWN, TRANSFORMERS, RANDOM = "written down", "transformers", "random"
ACCOUNTS = {
    **midas_networks.PUBLISHED,
    **{name: shapes for name, (shapes, _) in midas31.PUBLISHED.items()},
    "da2-small": lambda: anything.depth_anything(**anything.SMALL),
    "da2-base": lambda: anything.depth_anything(**anything.BASE),
    "da2-large": lambda: anything.depth_anything(**anything.LARGE),
    "focus-base": focus.keys,
    "da3-metric": lambda: anything.depth_anything_3(**anything.LARGE),
}
_WHOLE_NUMBERS = ("num_batches_tracked", "attention_bias_idxs", "relative_position_index")
_LAST = ("scratch.output_conv.4.bias", "depth_head.scratch.output_conv2.2.bias")  # of a ReLU: most depths are above 0


def write(recipe, path):
    """Write a checkpoint of ``recipe``: a file, or a folder of Hugging Face. Return the account, and its tensors.

    Nothing is written where nobody has written down the keys: most of these networks were never published.
    """
    if recipe.model.decoder == "dinov2":  # published as folders only
        gated = recipe.model.encoder.feed_forward == "swiglu"
        dpt_on_dinov2(recipe.model, swiglu=gated).save_pretrained(path)
        return TRANSFORMERS, len(load_file(path / "model.safetensors"))
    if recipe.name not in ACCOUNTS:
        return RANDOM, 0
    tensors = drawn(ACCOUNTS[recipe.name]())
    save_file(tensors, path)
    return WRITTEN_DOWN, len(tensors)


def drawn(shapes, seed=0):
    """Seeded values of a sane scale for keys of any family."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _draw(key, shape, generator) for key, shape in shapes.items()}


def _draw(key, shape, generator):
    leaf = key.rpartition(".")[2]
    if leaf in _WHOLE_NUMBERS:
        return torch.zeros(shape, dtype=torch.int64)
    if leaf in ("running_var", "gamma") or (len(shape) == 1 and leaf == "weight"):
        return torch.empty(shape).uniform_(0.6, 1.4, generator=generator)
    values = torch.randn(shape, generator=generator)
    if key in _LAST:
        return values + 4
    if leaf in ("pos_embed", "cls_token", "attention_biases", "relative_position_bias_table", "logit_scale"):
        return 0.5 * values
    if len(shape) < 2:
        return 0.1 * values
    return values / math.sqrt(math.prod(shape[1:]))


if __name__ == "__main__":
    print(*write(load_recipe(sys.argv[1]), Path(sys.argv[2])), sep="\n")
