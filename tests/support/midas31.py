"""Keys and shapes of MiDaS 3.1's checkpoints on BEiT, Swin V2 and Swin, written down from the original code.

As in :mod:`support.checkpoints`, nothing here is derived from the key maps under test. The names are those of timm
0.6.12, with the buffers that it stores.
"""

from __future__ import annotations

from support.checkpoints import Network, Shapes, _conv, _decoder, _linear, _norm, _reassemble

MODEL = "pretrained.model"
SWIN_CHANNELS = {96: (96, 192, 384, 768), 128: (128, 256, 512, 1024), 192: (192, 384, 768, 1536)}


def beit(width: int, depth: int, heads: int, grid: int, channels: tuple[int, int, int, int]) -> Shapes:
    shapes: Shapes = {f"{MODEL}.cls_token": (1, 1, width)}
    _conv(shapes, f"{MODEL}.patch_embed.proj", 3, width, 16)
    for index in range(depth):
        block = f"{MODEL}.blocks.{index}"
        shapes |= {f"{block}.{name}": (width,) for name in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")}
        shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * grid - 1) ** 2 + 3, heads)
        shapes[f"{block}.attn.relative_position_index"] = (grid**2 + 1, grid**2 + 1)
        shapes[f"{block}.attn.qkv.weight"] = (3 * width, width)
        _rest_of_block(shapes, block, width)
    _norm(shapes, f"{MODEL}.fc_norm", width)
    _linear(shapes, f"{MODEL}.head", width, 1000)
    net = Network(width=width, channels=channels)
    for k in (1, 2, 3, 4):
        _linear(shapes, f"pretrained.act_postprocess{k}.0.project.0", 2 * width, width)
        stem = f"pretrained.act_postprocess{k}"
        _reassemble(shapes, net, k, projection=f"{stem}.3", resize=f"{stem}.4")
    _decoder(shapes, net)
    return shapes


def swin2(width: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {}
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        channels = width * 2**stage
        for index in range(depth):
            block = f"{MODEL}.layers.{stage}.blocks.{index}"
            shapes |= {f"{block}.attn.{name}": (channels,) for name in ("q_bias", "v_bias")}
            shapes[f"{block}.attn.logit_scale"] = (count, 1, 1)
            shapes[f"{block}.attn.qkv.weight"] = (3 * channels, channels)
            _linear(shapes, f"{block}.attn.cpb_mlp.0", 2, 512)
            shapes[f"{block}.attn.cpb_mlp.2.weight"] = (count, 512)
            _rest_of_block(shapes, block, channels)
            if stage < 2 and index % 2:  # the windows of these stages shift: 16 or 4 windows of 24 * 24 or 16 * 16
                shapes[f"{block}.attn_mask"] = (16 if stage == 0 else 4, 576, 576)
        if stage < 3:
            shapes[f"{MODEL}.layers.{stage}.downsample.reduction.weight"] = (2 * channels, 4 * channels)
            _norm(shapes, f"{MODEL}.layers.{stage}.downsample.norm", 2 * channels)
    return shapes | _around_stages(width)


def swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {}
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        channels = width * 2**stage
        for index in range(depth):
            block = f"{MODEL}.layers.{stage}.blocks.{index}"
            shapes[f"{block}.attn.relative_position_bias_table"] = (23**2, count)
            shapes[f"{block}.attn.relative_position_index"] = (144, 144)
            _linear(shapes, f"{block}.attn.qkv", channels, 3 * channels)
            _rest_of_block(shapes, block, channels)
            if stage < 3 and index % 2:
                shapes[f"{block}.attn_mask"] = (4 ** (3 - stage), 144, 144)
        if stage < 3:
            shapes[f"{MODEL}.layers.{stage}.downsample.reduction.weight"] = (2 * channels, 4 * channels)
            _norm(shapes, f"{MODEL}.layers.{stage}.downsample.norm", 4 * channels)
    return shapes | _around_stages(width)


def _rest_of_block(shapes: Shapes, block: str, width: int) -> None:
    _norm(shapes, f"{block}.norm1", width)
    _linear(shapes, f"{block}.attn.proj", width, width)
    _norm(shapes, f"{block}.norm2", width)
    _linear(shapes, f"{block}.mlp.fc1", width, 4 * width)
    _linear(shapes, f"{block}.mlp.fc2", 4 * width, width)


def _around_stages(width: int) -> Shapes:
    shapes: Shapes = {}
    _conv(shapes, f"{MODEL}.patch_embed.proj", 3, width, 4)
    _norm(shapes, f"{MODEL}.patch_embed.norm", width)
    _norm(shapes, f"{MODEL}.norm", 8 * width)
    _linear(shapes, f"{MODEL}.head", 8 * width, 1000)
    _decoder(shapes, Network(channels=SWIN_CHANNELS[width]))
    return shapes


LARGE = (256, 512, 1024, 1024)
PUBLISHED = {
    "beit-large-512": (lambda: beit(1024, 24, 16, 32, LARGE), None),
    "beit-large-384": (lambda: beit(1024, 24, 16, 24, LARGE), None),
    "beit-base-384": (lambda: beit(768, 12, 12, 24, (96, 192, 384, 768)), 283),
    "swin2-large-384": (lambda: swin2(192, (2, 2, 18, 2), (6, 12, 24, 48)), None),
    "swin2-base-384": (lambda: swin2(128, (2, 2, 18, 2), (4, 8, 16, 32)), None),
    "swin2-tiny-256": (lambda: swin2(96, (2, 2, 6, 2), (3, 6, 12, 24)), 273),
    "swin-large-384": (lambda: swin(192, (2, 2, 18, 2), (6, 12, 24, 48)), None),
}  # the number of entries, where it was counted on the original
