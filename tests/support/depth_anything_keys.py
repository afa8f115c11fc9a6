"""Keys and shapes of the authors' files of Depth Anything V1 and V2 (the same) and 3, written down from their networks.

As in :mod:`support.checkpoints`, nothing here is derived from the key maps under test.
"""

from __future__ import annotations

from support.checkpoints import Shapes, _conv, _norm, _transformer_block

GRID = 37
SMALL = {"width": 384, "depth": 12, "channels": (48, 96, 192, 384), "fusion": 64}
BASE = {"width": 768, "depth": 12, "channels": (96, 192, 384, 768), "fusion": 128}
LARGE = {"width": 1024, "depth": 24, "channels": (256, 512, 1024, 1024), "fusion": 256}


def depth_anything(*, width, depth, channels, fusion) -> Shapes:
    """V1, V2, and V2 metric: a token for masks and the unit of a skip at the coarsest level are stored, and unused."""
    shapes = {"pretrained.mask_token": (1, width)} | _encoder("pretrained", width, depth)
    return shapes | _head("depth_head", width, channels, fusion, skips=(1, 2, 3, 4))


def depth_anything_3(*, width, depth, channels, fusion) -> Shapes:
    """DA3MONO-LARGE and DA3METRIC-LARGE: a branch for the sky, and no unused tensors."""
    shapes = _encoder("model.backbone.pretrained", width, depth)
    shapes |= _head("model.head", width, channels, fusion, skips=(1, 2, 3))
    _last_two(shapes, "model.head.scratch.sky_output_conv2", fusion)
    return shapes


def _encoder(stem, width, depth) -> Shapes:
    shapes: Shapes = {f"{stem}.cls_token": (1, 1, width), f"{stem}.pos_embed": (1, GRID**2 + 1, width)}
    _conv(shapes, f"{stem}.patch_embed.proj", 3, width, 14)
    for index in range(depth):
        block = f"{stem}.blocks.{index}"
        _transformer_block(shapes, block, width)
        shapes |= {f"{block}.ls{number}.gamma": (width,) for number in (1, 2)}
    _norm(shapes, f"{stem}.norm", width)
    return shapes


def _head(stem, width, channels, fusion, *, skips) -> Shapes:
    shapes: Shapes = {}
    for level, out in enumerate(channels):
        _conv(shapes, f"{stem}.projects.{level}", width, out, 1)
        if kernel := {0: 4, 1: 2, 3: 3}.get(level):
            _conv(shapes, f"{stem}.resize_layers.{level}", out, out, kernel)
        shapes[f"{stem}.scratch.layer{level + 1}_rn.weight"] = (fusion, out, 3, 3)
    for number in (1, 2, 3, 4):
        block = f"{stem}.scratch.refinenet{number}"
        _conv(shapes, f"{block}.out_conv", fusion, fusion, 1)
        for unit in (1, 2) if number in skips else (2,):
            for conv in (1, 2):
                _conv(shapes, f"{block}.resConfUnit{unit}.conv{conv}", fusion, fusion, 3)
    _conv(shapes, f"{stem}.scratch.output_conv1", fusion, fusion // 2, 3)
    _last_two(shapes, f"{stem}.scratch.output_conv2", fusion)
    return shapes


def _last_two(shapes, name, fusion):
    _conv(shapes, f"{name}.0", fusion // 2, 32, 3)
    _conv(shapes, f"{name}.2", 32, 1, 1)
