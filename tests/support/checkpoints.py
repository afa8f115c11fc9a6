"""Keys and shapes of the published checkpoints, written down from the original code.

This is a second, independent account: nothing here is derived from the key maps under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from support import focus
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """The numbers that fix the shapes of a DPT checkpoint."""

    width: int = 768
    depth: int = 12
    channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    hybrid: bool = False
    distilled: bool = False
    readout: str = "project"
    classes: int = 0  # 0 is depth
    grid: int = 24
    fusion: int = 256
    stage_blocks: tuple[int, int, int] = (3, 4, 9)
    stage_channels: tuple[int, int, int] = (256, 512, 1024)
    stem: int = 64
    imagenet_head: bool = True


BASE = Network()
LARGE = Network(width=1024, depth=24, channels=(256, 512, 1024, 1024))
HYBRID = Network(channels=(256, 512, 768, 768), hybrid=True)


def dpt_main(net: Network) -> Shapes:
    """Branch main of isl-org/DPT, and MiDaS 3.0."""
    shapes = _vit(net)
    for k in _tapped(net):
        stem = f"pretrained.act_postprocess{k}"
        if net.readout == "project":
            _linear(shapes, f"{stem}.0.project.0", 2 * net.width, net.width)
        _reassemble(shapes, net, k, projection=f"{stem}.3", resize=f"{stem}.4")
    _decoder(shapes, net)
    if net.classes:
        _batch_norm_head(shapes, "auxlayer", net)
    return shapes


def dpt_scriptable(net: Network) -> Shapes:
    """Branch dpt_scriptable of isl-org/DPT: other names in the reassemble part, and no auxiliary head."""
    shapes = _vit(net)
    for k in _tapped(net):
        if net.readout == "project":
            _linear(shapes, f"pretrained.readout_oper{k}.0.project.0", 2 * net.width, net.width)
        stem = f"pretrained.act_postprocess{k}"
        _reassemble(shapes, net, k, projection=f"{stem}.0", resize=f"{stem}.1")
    _decoder(shapes, net)
    return shapes


def midas21() -> Shapes:
    """MiDaS 2.1: ResNeXt101-32x8d and fusion blocks without a 1x1 convolution."""
    shapes: Shapes = {"pretrained.layer1.0.weight": (64, 3, 7, 7)}
    _batch_norm(shapes, "pretrained.layer1.1", 64)
    inputs = 64
    for stage, (blocks, middle, out) in enumerate(((3, 256, 256), (4, 512, 512), (23, 1024, 1024), (3, 2048, 2048))):
        prefix = "pretrained.layer1.4" if stage == 0 else f"pretrained.layer{stage + 1}"
        for block in range(blocks):
            name = f"{prefix}.{block}"
            shapes[f"{name}.conv1.weight"] = (middle, inputs, 1, 1)
            shapes[f"{name}.conv2.weight"] = (middle, middle // 32, 3, 3)
            shapes[f"{name}.conv3.weight"] = (out, middle, 1, 1)
            for index, size in ((1, middle), (2, middle), (3, out)):
                _batch_norm(shapes, f"{name}.bn{index}", size)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (out, inputs, 1, 1)
                _batch_norm(shapes, f"{name}.downsample.1", out)
            inputs = out
    _decoder(shapes, Network(channels=(256, 512, 1024, 2048)))
    return {key: shape for key, shape in shapes.items() if ".out_conv." not in key}


def _vit(net: Network) -> Shapes:
    width, model = net.width, "pretrained.model"
    tokens = 2 if net.distilled else 1
    shapes: Shapes = {f"{model}.cls_token": (1, 1, width)}
    if net.distilled:
        shapes[f"{model}.dist_token"] = (1, 1, width)
    shapes[f"{model}.pos_embed"] = (1, tokens + net.grid**2, width)
    if net.hybrid:
        _resnet(shapes, net)
    _conv(shapes, f"{model}.patch_embed.proj", *((net.stage_channels[-1], width, 1) if net.hybrid else (3, width, 16)))
    for index in range(net.depth):
        _transformer_block(shapes, f"{model}.blocks.{index}", width)
    _norm(shapes, f"{model}.norm", width)
    if net.imagenet_head:
        _linear(shapes, f"{model}.head", width, 1000)
        if net.distilled:
            _linear(shapes, f"{model}.head_dist", width, 1000)
    return shapes


def _resnet(shapes: Shapes, net: Network) -> None:
    backbone = "pretrained.model.patch_embed.backbone"
    shapes[f"{backbone}.stem.conv.weight"] = (net.stem, 3, 7, 7)
    _norm(shapes, f"{backbone}.stem.norm", net.stem)
    inputs = net.stem
    for stage, (blocks, out) in enumerate(zip(net.stage_blocks, net.stage_channels, strict=True)):
        middle = out // 4
        for block in range(blocks):
            name = f"{backbone}.stages.{stage}.blocks.{block}"
            if block == 0:
                shapes[f"{name}.downsample.conv.weight"] = (out, inputs, 1, 1)
                _norm(shapes, f"{name}.downsample.norm", out)
            for index, shape in enumerate(
                ((middle, inputs, 1, 1), (middle, middle, 3, 3), (out, middle, 1, 1)), start=1
            ):
                shapes[f"{name}.conv{index}.weight"] = shape
                _norm(shapes, f"{name}.norm{index}", shape[0])
            inputs = out


def _tapped(net: Network) -> tuple[int, ...]:
    return (3, 4) if net.hybrid else (1, 2, 3, 4)


def _reassemble(shapes: Shapes, net: Network, k: int, *, projection: str, resize: str) -> None:
    channels = net.channels[k - 1]
    _conv(shapes, projection, net.width, channels, 1)
    kernel = {1: 4, 2: 2, 4: 3}.get(k)
    if kernel:
        _conv(shapes, resize, channels, channels, kernel)


def _decoder(shapes: Shapes, net: Network) -> None:
    width = net.fusion
    for k in (1, 2, 3, 4):
        shapes[f"scratch.layer{k}_rn.weight"] = (width, net.channels[k - 1], 3, 3)
        block = f"scratch.refinenet{k}"
        _conv(shapes, f"{block}.out_conv", width, width, 1)
        for unit in (1, 2):
            for conv in (1, 2):
                name = f"{block}.resConfUnit{unit}"
                _conv(shapes, f"{name}.conv{conv}", width, width, 3, bias=not net.classes)
                if net.classes:
                    _batch_norm(shapes, f"{name}.bn{conv}", width)
    if net.classes:
        _batch_norm_head(shapes, "scratch.output_conv", net)
    else:
        _conv(shapes, "scratch.output_conv.0", width, width // 2, 3)
        _conv(shapes, "scratch.output_conv.2", width // 2, 32, 3)
        _conv(shapes, "scratch.output_conv.4", 32, 1, 1)


def _batch_norm_head(shapes: Shapes, name: str, net: Network) -> None:
    _conv(shapes, f"{name}.0", net.fusion, net.fusion, 3, bias=False)
    _batch_norm(shapes, f"{name}.1", net.fusion)
    _conv(shapes, f"{name}.4", net.fusion, net.classes, 1)


def _transformer_block(shapes: Shapes, block: str, width: int) -> None:
    """A block of timm's ViT."""
    _norm(shapes, f"{block}.norm1", width)
    _linear(shapes, f"{block}.attn.qkv", width, 3 * width)
    _linear(shapes, f"{block}.attn.proj", width, width)
    _norm(shapes, f"{block}.norm2", width)
    _linear(shapes, f"{block}.mlp.fc1", width, 4 * width)
    _linear(shapes, f"{block}.mlp.fc2", 4 * width, width)


def _linear(shapes: Shapes, name: str, inputs: int, outputs: int) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)


def _conv(shapes: Shapes, name: str, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def _norm(shapes: Shapes, name: str, size: int) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (size,), (size,)


def _batch_norm(shapes: Shapes, name: str, size: int) -> None:
    _norm(shapes, name, size)
    shapes[f"{name}.running_mean"], shapes[f"{name}.running_var"] = (size,), (size,)
    shapes[f"{name}.num_batches_tracked"] = ()


@dataclass(frozen=True)
class Published:
    """A published file, the recipe and task it belongs to, its keys, and how many there are."""

    file: str
    recipe: str
    task: str
    shapes: Callable[[], Shapes]
    count: int


def _ade(net: Network) -> Network:
    return replace(net, classes=150)


PUBLISHED = (
    Published("dpt_large-midas-2f21e586.pt", "large", "depth", lambda: dpt_main(LARGE), 368),
    Published("dpt_hybrid-midas-501f0c75.pt", "hybrid", "depth", lambda: dpt_main(HYBRID), 368),
    Published("dpt_large-ade20k-b12dca68.pt", "large", "segmentation", lambda: dpt_main(_ade(LARGE)), 442),
    Published("dpt_hybrid-ade20k-53898607.pt", "hybrid", "segmentation", lambda: dpt_main(_ade(HYBRID)), 442),
    Published("dpt_hybrid_kitti-cb926ef4.pt", "hybrid-kitti", "depth", lambda: dpt_main(HYBRID), 368),
    Published("dpt_hybrid_nyu-2ce69ec7.pt", "hybrid-nyu", "depth", lambda: dpt_main(HYBRID), 368),
    Published("dpt_hybrid_nyu_new-217f207d.pt", "hybrid-nyu", "depth", lambda: dpt_main(HYBRID), 368),
    Published("dpt_hybrid-midas-d889a10e.pt", "hybrid", "depth", lambda: dpt_scriptable(HYBRID), 368),
    Published("dpt_large-midas-b53ba79e.pt", "large", "depth", lambda: dpt_scriptable(LARGE), 368),
    Published("dpt_hybrid-ade20k-a7d10e8d.pt", "hybrid", "segmentation", lambda: dpt_scriptable(_ade(HYBRID)), 434),
    Published("dpt_large-ade20k-078062de.pt", "large", "segmentation", lambda: dpt_scriptable(_ade(LARGE)), 434),
    Published("dpt_hybrid-kitti-e7069aae.pt", "hybrid-kitti", "depth", lambda: dpt_scriptable(HYBRID), 368),
    Published("dpt_hybrid-nyu-b3a2ef48.pt", "hybrid-nyu", "depth", lambda: dpt_scriptable(HYBRID), 368),
    Published("dpt_large_384.pt", "large", "depth", lambda: dpt_main(LARGE), 368),
    Published("dpt_hybrid_384.pt", "hybrid", "depth", lambda: dpt_main(HYBRID), 368),
    Published("midas_v21-f6b98070.pt", "midas-v21", "depth", midas21, 666),
    Published("midas_v21_384.pt", "midas-v21", "depth", midas21, 666),
    Published("FocusOnDepth_vit_base_patch16_384.p", "focus-base", "depth", focus.keys, 218),
    Published("FocusOnDepth_vit_base_patch16_384.p", "focus-base", "segmentation", focus.keys, 218),
)


def random_tensors(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Seeded values of a sane scale for these keys; the last bias is positive, so that no output is all zero."""
    generator = torch.Generator().manual_seed(seed)
    return {key: _draw(key, shape, generator) for key, shape in shapes.items()}


def _draw(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1234)
    values = torch.randn(shape, generator=generator)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return 1 + 0.2 * values.clamp(-3, 3)
    if key in ("scratch.output_conv.4.bias", "head.head.4.bias"):
        return values + 4
    if len(shape) in (0, 1):
        return 0.1 * values
    if key.endswith(("pos_embed", "cls_token", "dist_token", "position_embeddings")):
        return 0.5 * values
    return values / math.sqrt(values[0].numel())


def write_flat(path: Path, shapes: Shapes) -> Path:
    """A checkpoint of these shapes that takes no space: every tensor is one stored number, repeated by its strides."""
    torch.save({key: torch.full((), 0.5).expand(shape) for key, shape in shapes.items()}, path)
    return path
