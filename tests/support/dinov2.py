"""Hugging Face's Depth Anything as an oracle: its configuration written down independently, random values, keys."""

import functools
import math

import numpy as np
import torch
import transformers
from support.random_values import fill
from torch import nn

A = -0.75


def _backbone(spec, *, swiglu, apply_layernorm):
    encoder = spec.encoder
    return transformers.Dinov2Config(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        image_size=14 * encoder.grid,
        patch_size=14,
        out_indices=[tap + 1 for tap in spec.taps],
        apply_layernorm=apply_layernorm,
        reshape_hidden_states=False,
        use_swiglu_ffn=swiglu,
    )


def depth_anything(spec, *, kind="relative", limit=1, swiglu=False, apply_layernorm=True):
    """Hugging Face's network of ``spec`` with random values in every parameter, and an output that varies."""
    config = transformers.DepthAnythingConfig(
        backbone_config=_backbone(spec, swiglu=swiglu, apply_layernorm=apply_layernorm),
        reassemble_hidden_size=spec.encoder.width,
        neck_hidden_sizes=list(spec.reassemble_channels),
        fusion_hidden_size=spec.fusion_channels,
        depth_estimation_type=kind,
        max_depth=limit,
    )
    model = transformers.DepthAnythingForDepthEstimation(config).eval()
    _randomise(model, model.head.conv3, (9.0, 1.0) if kind == "relative" else (0.0, 1.0))
    return model


def _randomise(model, last, statistics):
    """Draw every parameter; ``last`` then has this mean and deviation of its output on a random image."""
    generator = torch.Generator().manual_seed(0)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            _fill(name, tensor, norm=name.rpartition(".")[0] in norms, generator=generator)
        seen = []
        handle = last.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        model(torch.randn(1, 3, 98, 126, generator=generator))
        handle.remove()
        mean, spread = statistics
        gain = spread / seen[0].std()
        last.weight *= gain
        last.bias.copy_((last.bias - seen[0].mean()) * gain + mean)


def dpt_on_dinov2(spec, *, swiglu=False):
    """Hugging Face's DPT on the DINOv2 of ``spec`` with random values in every parameter."""
    config = transformers.DPTConfig(
        backbone_config=_backbone(spec, swiglu=swiglu, apply_layernorm=False),
        neck_hidden_sizes=list(spec.reassemble_channels),
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )
    model = transformers.DPTForDepthEstimation(config).eval()
    _randomise(model, model.head.head[4], (5.0, 1.0))
    return model


def with_registers(spec):
    """Hugging Face's encoder of ``spec`` with registers and random values, whose positions are the original's."""
    backbone = _backbone(spec, swiglu=False, apply_layernorm=True).to_dict()
    del backbone["model_type"]
    config = transformers.Dinov2WithRegistersConfig(**{**backbone, "num_register_tokens": spec.encoder.registers})
    model = transformers.Dinov2WithRegistersModel(config).eval()
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            _fill(name, tensor, norm=name.rpartition(".")[0] in norms, generator=generator)
    model.embeddings.interpolate_pos_encoding = functools.partial(_interpolated, model.embeddings)
    return model


def taps_of(model, spec, pixels):
    """The tokens (B, 1 + registers + patches, D) of the tapped blocks of :func:`with_registers`, behind its norm."""
    with torch.inference_mode():
        states = model(pixels, output_hidden_states=True).hidden_states
        return [model.layernorm(states[tap + 1]) for tap in spec.taps]


def output(model, pixels):
    with torch.inference_mode():
        return model(pixels).predicted_depth


def _fill(name, tensor, *, norm, generator):
    if "lambda" in name or (norm and name.endswith("weight")):
        tensor.uniform_(0.6, 1.4, generator=generator)
    else:
        fill(name, tensor, generator)


def original_positions(model):
    """Make the oracle resize its position table as the original does, by a formula in float64."""
    embeddings = model.backbone.embeddings
    embeddings.interpolate_pos_encoding = functools.partial(_interpolated, embeddings)
    return model


def _interpolated(embeddings, _tokens, height, width):
    table = embeddings.position_embeddings.detach()
    side = math.isqrt(table.shape[1] - 1)
    rows, columns = height // embeddings.patch_size, width // embeddings.patch_size
    if rows == columns == side:
        return table
    grid = table[0, 1:].double().numpy().reshape(side, side, -1)
    resized = np.einsum("ia,jb,abd->ijd", weights(rows, side, 0.1), weights(columns, side, 0.1), grid)
    found = torch.from_numpy(resized.reshape(1, rows * columns, -1)).to(table.dtype)
    return torch.cat((table[:, :1], found), dim=1)


def weights(count, side, offset):
    """Bicubic weights (count, side) in float64, neighbour by neighbour."""
    found = np.zeros((count, side))
    for row in range(count):
        source = (row + 0.5) * side / (count + offset) - 0.5
        first = math.floor(source)
        for neighbour in range(first - 1, first + 3):
            distance = abs(source - neighbour)
            if distance <= 1:
                weight = (A + 2) * distance**3 - (A + 3) * distance**2 + 1
            else:
                weight = A * distance**3 - 5 * A * distance**2 + 8 * A * distance - 4 * A
            found[row, min(max(neighbour, 0), side - 1)] += weight
    return found


def original_keys(tensors, *, encoder="pretrained", head="depth_head"):
    """The tensors of a folder (by the names on disk) under the names of the authors' own files."""
    found, parts = {}, {}
    for key, tensor in tensors.items():
        words = key.split(".")
        if ".attention.attention." in key:
            parts.setdefault((words[3], words[-1]), {})[words[-2]] = tensor
        else:
            found[_original_key(words, encoder, head)] = tensor
    for (block, leaf), qkv in parts.items():
        found[f"{encoder}.blocks.{block}.attn.qkv.{leaf}"] = torch.cat([qkv[n] for n in ("query", "key", "value")])
    return found


_KEYS = (  # part of a name on disk, part of the original's; N and the rest stay
    ("backbone.embeddings.patch_embeddings.projection.", "E.patch_embed.proj."),
    ("backbone.embeddings.position_embeddings", "E.pos_embed"),
    ("backbone.embeddings.", "E."),
    ("backbone.layernorm.", "E.norm."),
    ("backbone.encoder.layer.", "E.blocks."),
    (".attention.output.dense.", ".attn.proj."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    (".mlp.weights_in.", ".mlp.w12."),
    (".mlp.weights_out.", ".mlp.w3."),
    ("head.conv1.", "H.scratch.output_conv1."),
    ("head.conv2.", "H.scratch.output_conv2.0."),
    ("head.conv3.", "H.scratch.output_conv2.2."),
)


def _original_key(words, encoder, head):
    key = ".".join(words)
    if words[0] == "neck":
        return _neck_key(words[1:], f"{head}.scratch", head)
    for theirs, ours in _KEYS:
        key = key.replace(theirs, ours.replace("E.", f"{encoder}.").replace("H.", f"{head}."))
    return key


def _neck_key(words, scratch, head):
    match words:
        case ["reassemble_stage", "layers", level, name, leaf]:
            return f"{head}.{'projects' if name == 'projection' else 'resize_layers'}.{level}.{leaf}"
        case ["convs", level, leaf]:
            return f"{scratch}.layer{int(level) + 1}_rn.{leaf}"
        case ["fusion_stage", "layers", index, "projection", leaf]:
            return f"{scratch}.refinenet{4 - int(index)}.out_conv.{leaf}"
        case ["fusion_stage", "layers", index, unit, conv, leaf]:
            name = f"resConfUnit{unit[-1]}.{conv.replace('convolution', 'conv')}"
            return f"{scratch}.refinenet{4 - int(index)}.{name}.{leaf}"
    raise KeyError(".".join(words))
