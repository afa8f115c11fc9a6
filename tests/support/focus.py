"""FocusOnDepth from its published keys and description alone: an independent account, without the package."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F

RECIPE = Path(__file__).with_name("recipes") / "tiny-focus.toml"
TINY = {"width": 48, "depth": 4, "grid": 6, "channels": 32}  # the shapes of that recipe
TAPS, ATTENTION_HEADS = (0, 1, 2, 3), 3
STRIDES = (4, 8, 16, 32)
VIT = "transformer_encoders"
HEADS = ("depth", "segmentation")


def keys(width=768, depth=12, grid=24, channels=256, classes=2, heads=HEADS, readout="projection"):
    """Keys and shapes of a checkpoint: timm's whole Vision Transformer, four levels of one width, and the heads."""
    shapes = {f"{VIT}.cls_token": (1, 1, width), f"{VIT}.pos_embed": (1, 1 + grid**2, width)}
    _layer(shapes, f"{VIT}.patch_embed.proj", width, 3, 16, 16)
    for index in range(depth):
        block = f"{VIT}.blocks.{index}"
        for name, shape in {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            _layer(shapes, f"{block}.{name}", *shape)
    _layer(shapes, f"{VIT}.norm", width)
    _layer(shapes, f"{VIT}.head", 1000, width)
    for level, kernel in enumerate((4, 2, None, 2)):
        if readout == "projection":
            _layer(shapes, f"reassembles.{level}.read.project.0", width, 2 * width)
        _layer(shapes, f"reassembles.{level}.resample.conv1", channels, width, 1, 1)
        if kernel:
            _layer(shapes, f"reassembles.{level}.resample.conv2", channels, channels, kernel, kernel)
        for unit in (1, 2):
            for conv in (1, 2):
                _layer(shapes, f"fusions.{level}.res_conv{unit}.conv{conv}", channels, channels, 3, 3)
    for head in heads:
        last = {"depth": 1, "segmentation": classes}[head]
        for place, shape in {
            0: (channels // 2, channels, 3, 3),
            2: (32, channels // 2, 3, 3),
            4: (last, 32, 1, 1),
        }.items():
            _layer(shapes, f"head_{head}.head.{place}", *shape)
    return shapes


def drawn(shapes, seed=0):
    """Random tensors of a sane scale; the depth stays in the middle of the sigmoid."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            found[key] = 1 + 0.2 * values if ".norm" in key and key.endswith("weight") else 0.1 * values
        else:
            scale = 0.5 if key.endswith(("pos_embed", "cls_token")) else 1 / math.sqrt(values[0].numel())
            found[key] = scale * values
    return found


def as_saved(state):
    """The file of the authors' trainer: the weights next to the states of two optimisers."""
    optimiser = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-5}]}
    return {
        "model_state_dict": state,
        "optimizer_backbone_state_dict": optimiser,
        "optimizer_scratch_state_dict": optimiser,
    }


def image(batch, height, width):
    """Normalised values (B, 3, H, W) of smooth shapes and texture."""
    generator = torch.Generator().manual_seed(batch * height + width)
    coarse = torch.rand((batch, 3, 4, 4), generator=generator) * 2 - 1
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 0.2 * torch.randn((batch, 3, height, width), generator=generator)).clamp(-1, 1)


def distances(found, wanted):
    """The largest difference of any output, as a share of the wanted one's range."""
    pairs = list(zip(found, wanted, strict=True))
    assert all(one.shape == other.shape for one, other in pairs)
    return max(float((one - other).abs().max() / (other.max() - other.min())) for one, other in pairs)


def forward(state, image, taps=TAPS, heads=ATTENTION_HEADS, readout="projection"):
    """Depth (B, H, W) in (0, 1) and logits (B, classes, H, W) of an image (B, 3, H, W) of any size.

    None stands for the output of a head that the file does not have.
    """
    rows, columns = (side // 16 for side in image.shape[2:])
    features = _tokens(state, image, rows, columns, heads)
    previous = 0
    for level in reversed(range(4)):
        x = _reassembled(state, f"reassembles.{level}", features[taps[level]], rows, columns, level, readout)
        x = _unit(state, f"fusions.{level}.res_conv1", x) + previous
        x = _unit(state, f"fusions.{level}.res_conv2", x)
        previous = _doubled(x)
    depth, logits = (_head(state, f"head_{name}.head", previous) for name in HEADS)
    return None if depth is None else torch.sigmoid(depth)[:, 0], logits


def _tokens(state, image, rows, columns, heads):
    """The outputs of all blocks, before the final norm, with positions interpolated to the image's grid."""
    position = state[f"{VIT}.pos_embed"]
    side = math.isqrt(position.shape[1] - 1)
    grid = position[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, columns), mode="bilinear").flatten(2).transpose(1, 2)
    patches = F.conv2d(image, *_pair(state, f"{VIT}.patch_embed.proj"), stride=16).flatten(2).transpose(1, 2)
    leading = (state[f"{VIT}.cls_token"] + position[:, :1]).expand(len(image), -1, -1)
    x = torch.cat((leading, patches + grid), dim=1)
    found, depth = [], 1 + max(int(key.split(".")[2]) for key in state if key.startswith(f"{VIT}.blocks."))
    for index in range(depth):
        block = f"{VIT}.blocks.{index}"
        x = x + _attention(state, f"{block}.attn", _norm(state, f"{block}.norm1", x), heads)
        hidden = F.gelu(F.linear(_norm(state, f"{block}.norm2", x), *_pair(state, f"{block}.mlp.fc1")))
        x = x + F.linear(hidden, *_pair(state, f"{block}.mlp.fc2"))
        found.append(x)
    return found


def _attention(state, name, x, heads):
    batch, count, width = x.shape
    query, key, value = (
        F.linear(x, *_pair(state, f"{name}.qkv")).reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    )
    weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // heads), dim=-1)
    return F.linear((weights @ value).transpose(1, 2).reshape(batch, count, width), *_pair(state, f"{name}.proj"))


def _reassembled(state, name, tokens, rows, columns, level, readout):
    first, patches = tokens[:, :1], tokens[:, 1:]
    if readout == "projection":
        patches = F.gelu(
            F.linear(torch.cat((patches, first.expand_as(patches)), -1), *_pair(state, f"{name}.read.project.0"))
        )
    elif readout == "add":
        patches = patches + first
    x = patches.transpose(1, 2).unflatten(2, (rows, columns))
    x = F.conv2d(x, *_pair(state, f"{name}.resample.conv1"))
    if STRIDES[level] == 16:
        return x
    resample = F.conv2d if STRIDES[level] == 32 else F.conv_transpose2d
    return resample(x, *_pair(state, f"{name}.resample.conv2"), stride=(4, 2, 1, 2)[level])


def _unit(state, name, x):
    """A residual unit around one literal ReLU module that works in place, as the authors' code has it."""
    x, relu = x.clone(), torch.nn.ReLU(inplace=True)
    inner = F.conv2d(relu(x), *_pair(state, f"{name}.conv1"), padding=1)
    return F.conv2d(relu(inner), *_pair(state, f"{name}.conv2"), padding=1) + x


def _head(state, name, x):
    if f"{name}.0.weight" not in state:
        return None
    x = _doubled(F.conv2d(x, *_pair(state, f"{name}.0"), padding=1))
    return F.conv2d(F.relu(F.conv2d(x, *_pair(state, f"{name}.2"), padding=1)), *_pair(state, f"{name}.4"))


def _doubled(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], *_pair(state, name), 1e-6)


def _pair(state, name):
    return state[f"{name}.weight"], state[f"{name}.bias"]


def _layer(shapes, name, *shape):
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
