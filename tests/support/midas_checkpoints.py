"""Keys and shapes of MiDaS checkpoints on Next-ViT, LeViT and EfficientNet-Lite, written down from the original code.

Nothing here is derived from the key maps under test. The defaults are those of the published files.
"""

from __future__ import annotations

from support.checkpoints import Shapes, _batch_norm, _conv, _linear

MODEL = "pretrained.model"


def next_vit(
    stem=(64, 32, 64),
    blocks=(3, 4, 30, 3),
    narrow=(96, 192, 384, 768),
    wide=(96, 256, 512, 1024),
    attended=(0, 192, 384, 768),
    group=5,
    head=32,
    fusion=256,
) -> Shapes:
    shapes: Shapes = {}
    for index, (inputs, out) in enumerate(((3, stem[0]), (stem[0], stem[1]), (stem[1], stem[2]), (stem[2], stem[2]))):
        _conv(shapes, f"{MODEL}.stem.{index}.conv", inputs, out, 3, bias=False)
        _batch_norm(shapes, f"{MODEL}.stem.{index}.norm", out)
    number, inputs = 0, stem[2]
    for stage, count in enumerate(blocks):
        for place in range(count):
            name = f"{MODEL}.features.{number}"
            ends = (place + 1) % group == 0 if stage == 2 else place + 1 == count
            if stage and ends:
                _transformer(shapes, name, inputs, wide[stage], attended[stage], (0, 16, 4, 1)[stage], head)
            else:
                _embed(shapes, f"{name}.patch_embed", inputs, narrow[stage], changes=bool(stage) and not place)
                _mhca(shapes, f"{name}.mhca", narrow[stage], head)
                _batch_norm(shapes, f"{name}.norm", narrow[stage])
                _mlp(shapes, f"{name}.mlp", narrow[stage], 3)
            inputs, number = (wide if stage and ends else narrow)[stage], number + 1
    _batch_norm(shapes, f"{MODEL}.norm", inputs)
    _linear(shapes, f"{MODEL}.proj_head.0", inputs, 1000)
    _decoder(shapes, wide, (fusion,) * 4, head=(fusion, fusion // 2, 32))
    return shapes


def _transformer(shapes, name, inputs, out, attended, pooled, head):
    _embed(shapes, f"{name}.patch_embed", inputs, attended, changes=False)
    _batch_norm(shapes, f"{name}.norm1", attended)
    for layer in "qkv":
        _linear(shapes, f"{name}.e_mhsa.{layer}", attended, attended)
    _linear(shapes, f"{name}.e_mhsa.proj", attended, attended)
    if pooled > 1:
        _batch_norm(shapes, f"{name}.e_mhsa.norm", attended)
    _embed(shapes, f"{name}.projection", attended, out - attended, changes=False)
    _mhca(shapes, f"{name}.mhca", out - attended, head)
    _batch_norm(shapes, f"{name}.norm2", out)
    _mlp(shapes, f"{name}.mlp", out, 2)


def _embed(shapes, name, inputs, out, *, changes):
    if changes or inputs != out:
        _conv(shapes, f"{name}.conv", inputs, out, 1, bias=False)
        _batch_norm(shapes, f"{name}.norm", out)


def _mhca(shapes, name, width, head):
    shapes[f"{name}.group_conv3x3.weight"] = (width, head, 3, 3)
    _batch_norm(shapes, f"{name}.norm", width)
    _conv(shapes, f"{name}.projection", width, width, 1, bias=False)


def _mlp(shapes, name, width, ratio):
    _conv(shapes, f"{name}.conv1", width, ratio * width, 1)
    _conv(shapes, f"{name}.conv2", ratio * width, width, 1)


def levit(widths=(384, 512, 768), depths=(4, 4, 4), heads=(6, 9, 12), key=32, side=224, fusion=256) -> Shapes:
    shapes: Shapes = {}
    stem = (3, widths[0] // 8, widths[0] // 4, widths[0] // 2, widths[0])
    for index in range(4):
        _conv(shapes, f"{MODEL}.patch_embed.{2 * index}.c", stem[index], stem[index + 1], 3, bias=False)
        _batch_norm(shapes, f"{MODEL}.patch_embed.{2 * index}.bn", stem[index + 1])
    number, grid = 0, side // 16
    for stage, width in enumerate(widths):
        if stage:
            before, half = widths[stage - 1], -(-grid // 2)
            name, many = f"{MODEL}.blocks.{number}", before // key
            _biases(shapes, name, many, grid, (half**2, grid**2))
            _linear_norm(shapes, f"{name}.kv", before, many * 5 * key)
            _linear_norm(shapes, f"{name}.q.1", before, many * key)
            _linear_norm(shapes, f"{name}.proj.1", many * 4 * key, width)
            _levit_mlp(shapes, f"{MODEL}.blocks.{number + 1}.m", width)
            number, grid = number + 2, half
        for _ in range(depths[stage]):
            name = f"{MODEL}.blocks.{number}.m"
            _biases(shapes, name, heads[stage], grid, (grid**2, grid**2))
            _linear_norm(shapes, f"{name}.qkv", width, heads[stage] * 4 * key)
            _linear_norm(shapes, f"{name}.proj.1", heads[stage] * 2 * key, width)
            _levit_mlp(shapes, f"{MODEL}.blocks.{number + 1}.m", width)
            number += 2
    for name in ("head", "head_dist"):
        _batch_norm(shapes, f"{MODEL}.{name}.bn", widths[-1])
        _linear(shapes, f"{MODEL}.{name}.l", widths[-1], 1000)
    for index, (inputs, out) in enumerate(((fusion, fusion // 2), (fusion // 2, fusion // 4))):
        _conv(shapes, f"scratch.stem_transpose.{2 * index}.c", out, inputs, 3, bias=False)  # transposed: inputs first
        _batch_norm(shapes, f"scratch.stem_transpose.{2 * index}.bn", out)
    _decoder(shapes, widths, (fusion,) * 3, head=(fusion // 4, fusion // 8, 8))
    return shapes


def _biases(shapes, name, heads, grid, pairs):
    shapes[f"{name}.attention_biases"] = (heads, grid**2)
    shapes[f"{name}.attention_bias_idxs"] = pairs


def _linear_norm(shapes, name, inputs, outputs):
    shapes[f"{name}.c.weight"] = (outputs, inputs)
    _batch_norm(shapes, f"{name}.bn", outputs)


def _levit_mlp(shapes, name, width):
    _linear_norm(shapes, f"{name}.0", width, 2 * width)
    _linear_norm(shapes, f"{name}.2", 2 * width, width)


def midas21_small(stem=32, blocks=(1, 3, 3, 5, 5, 6, 1), widths=(24, 32, 48, 96, 136, 232, 384), fusion=64) -> Shapes:
    shapes: Shapes = {}
    _conv(shapes, "pretrained.layer1.0", 3, stem, 3, bias=False)
    _batch_norm(shapes, "pretrained.layer1.1", stem)
    places = ("layer1.3", "layer1.4", "layer2.0", "layer3.0", "layer3.1", "layer4.0", "layer4.1")
    kernels, inputs = (3, 3, 5, 3, 5, 5, 3), stem
    for stage, out in enumerate(widths):
        for block in range(blocks[stage]):
            name, wide = f"pretrained.{places[stage]}.{block}", inputs * (6 if stage else 1)
            if stage:
                _conv(shapes, f"{name}.conv_pw", inputs, wide, 1, bias=False)
                _batch_norm(shapes, f"{name}.bn1", wide)
            shapes[f"{name}.conv_dw.weight"] = (wide, 1, kernels[stage], kernels[stage])
            _batch_norm(shapes, f"{name}.bn{2 if stage else 1}", wide)
            _conv(shapes, f"{name}.conv_pw{'l' if stage else ''}", wide, out, 1, bias=False)
            _batch_norm(shapes, f"{name}.bn{3 if stage else 2}", out)
            inputs = out
    taps = tuple(widths[stage] for stage in (1, 2, 4, 6))
    _decoder(shapes, taps, (fusion, 2 * fusion, 4 * fusion, 8 * fusion), head=(fusion, fusion // 2, 32), widens=True)
    return shapes


def _decoder(shapes, inputs, widths, *, head, widens=False):
    for k, (channels, width) in enumerate(zip(inputs, widths, strict=True), start=1):
        shapes[f"scratch.layer{k}_rn.weight"] = (width, channels, 3, 3)
        block = f"scratch.refinenet{k}"
        _conv(shapes, f"{block}.out_conv", width, width // 2 if widens and k > 1 else width, 1)
        for unit in (1, 2):
            for conv in (1, 2):
                _conv(shapes, f"{block}.resConfUnit{unit}.conv{conv}", width, width, 3)
    _conv(shapes, "scratch.output_conv.0", head[0], head[1], 3)
    _conv(shapes, "scratch.output_conv.2", head[1], head[2], 3)
    _conv(shapes, "scratch.output_conv.4", head[2], 1, 1)
