"""The decoders of MiDaS in plain functions of the published keys: an independent account, without the package."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def decode(state, features, *, corners=True, head_corners=True, output_padding=1):
    """Depth (B, H, W) from the features, finest first; the options are those that a wrong decoder would get wrong."""
    maps = [F.conv2d(each, state[f"scratch.layer{k}_rn.weight"], padding=1) for k, each in enumerate(features, 1)]
    path = None
    for k in range(len(maps), 0, -1):
        x = maps[k - 1] if path is None else path + _unit(state, f"scratch.refinenet{k}.resConfUnit1", maps[k - 1])
        x = _unit(state, f"scratch.refinenet{k}.resConfUnit2", x)
        size = [2 * side for side in x.shape[2:]] if k == 1 else maps[k - 2].shape[2:]
        x = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=corners)
        path = _conv(state, f"scratch.refinenet{k}.out_conv", x)
    for place in (0, 2):
        name = f"scratch.stem_transpose.{place}"
        if f"{name}.c.weight" in state:
            weight = state[f"{name}.c.weight"]
            path = F.conv_transpose2d(path, weight, stride=2, padding=1, output_padding=output_padding)
            norm = [state[f"{name}.bn.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
            path = F.batch_norm(path, *norm)
            path = path * (path + 3).clamp(0, 6) / 6
    x = _conv(state, "scratch.output_conv.0", path, padding=1)
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=head_corners)
    x = torch.relu(_conv(state, "scratch.output_conv.2", x, padding=1))
    return torch.relu(_conv(state, "scratch.output_conv.4", x))[:, 0]


def _conv(state, name, x, padding=0):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)


def _unit(state, name, x):
    hidden = _conv(state, f"{name}.conv1", torch.relu(x), padding=1)
    return x + _conv(state, f"{name}.conv2", torch.relu(hidden), padding=1)
