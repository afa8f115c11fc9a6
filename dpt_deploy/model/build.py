"""Build the network that a specification describes."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.dpt import DPT


def build(spec: ModelSpec) -> DPT:
    """The network of ``spec`` on the meta device: shapes without memory, in evaluation mode."""
    with torch.device("meta"):
        model = DPT(spec)
    return model.requires_grad_(False).eval()


def count_reference_operations(spec: ModelSpec, size: Size) -> int:
    """Operations of the network as the paper draws it (two per multiply-add), for one image.

    PyTorch counts them on the meta device.
    """
    with FlopCounterMode(display=False) as counter:
        build(spec)(torch.empty((1, 3, size.height, size.width), device="meta"))
    return int(counter.get_total_flops())
