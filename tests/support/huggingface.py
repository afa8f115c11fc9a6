"""Hugging Face's DPT as an oracle: its configuration, written down independently, random values, and its output."""

import functools

import torch
import transformers
from support.random_values import fill
from torch import nn


def oracle_config(spec, **changes):
    """Hugging Face's configuration of ``spec``, written down from its documentation and not by the code under test."""
    encoder = spec.encoder
    config = {
        "hidden_size": encoder.width,
        "intermediate_size": 4 * encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "image_size": encoder.patch * encoder.grid,
        "patch_size": encoder.patch,
        # Of a token of 16 or 8 pixels, to 1/4, 1/8, 1/16 and 1/32 of the image.
        "reassemble_factors": {16: [4, 2, 1, 0.5], 8: [2, 1, 0.5, 0.25]}[encoder.patch],
        "layer_norm_eps": 1e-6,
        "readout_type": spec.readout,
        "backbone_out_indices": list(spec.taps),
        "neck_hidden_sizes": list(spec.reassemble_channels),
        "fusion_hidden_size": spec.fusion_channels,
    }
    if encoder.kind == "hybrid":
        config |= {
            "is_hybrid": True,
            "backbone_out_indices": [0, 1, *spec.taps[2:]],
            "reassemble_factors": [1, 1, 1, 0.5],
            "backbone_featmap_shape": [1, encoder.stage_channels[-1], encoder.grid, encoder.grid],
            "backbone_config": {
                "layer_type": "bottleneck",
                "embedding_size": encoder.stem_channels,
                "hidden_sizes": list(encoder.stage_channels),
                "depths": list(encoder.stage_blocks),
                "global_padding": "same",
                "embedding_dynamic_padding": True,
                "out_features": ["stage1", "stage2", "stage3"],
            },
        }
    if spec.task == "segmentation":
        config |= {"use_batch_norm_in_fusion_residual": True, "num_labels": spec.num_classes}
    return transformers.DPTConfig(**{**config, **changes})


def oracle_class(spec):
    return transformers.DPTForDepthEstimation if spec.task == "depth" else transformers.DPTForSemanticSegmentation


def oracle(spec, **changes):
    """Hugging Face's network with random values in every parameter and statistic."""
    with torch.device("meta"):
        model = oracle_class(spec)(oracle_config(spec, **changes))
    model = model.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    norms = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d)
    }
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            _fill(name, tensor, norm=name.rpartition(".")[0] in norms, generator=generator)
    if spec.task == "depth":
        lift(model)
    return model


def lift(model):
    """Move the last bias until the final ReLU cuts next to nothing: zeros would agree with zeros."""
    seen = []
    handle = model.head.head[4].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    side = max(64, 8 * (model.config.image_size // 16))
    oracle_output(model, photograph(1, side, side))
    handle.remove()
    with torch.no_grad():
        model.head.head[4].bias += 5 * seen[0].std() - seen[0].mean()


def _fill(name, tensor, *, norm, generator):
    if not tensor.is_floating_point():
        tensor.fill_(5)
    elif name.endswith("running_var") or (norm and name.endswith("weight")):
        tensor.uniform_(0.7, 1.3, generator=generator)
    else:
        fill(name, tensor, generator)


def oracle_output(model, pixels):
    """Output of the oracle at any size: its own ``forward`` takes square images only."""
    config, (height, width) = model.config, pixels.shape[2:]
    if config.is_hybrid:
        model.dpt.embeddings.forward = functools.partial(
            type(model.dpt.embeddings).forward, model.dpt.embeddings, interpolate_pos_encoding=True
        )
    with torch.inference_mode():
        outputs = model.dpt(pixels, output_hidden_states=True)
        blocks, indices = outputs.hidden_states[1:], list(config.backbone_out_indices)
        stages = list(outputs.intermediate_activations) if config.is_hybrid else []
        features = stages + [blocks[index] for index in indices[len(stages) :]]
        return model.head(model.neck(features, height // config.patch_size, width // config.patch_size))


def photograph(batch, height, width):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch + height))


def distance(ours, theirs):
    """Largest difference over the range of the oracle's answer, which must not be flat."""
    assert ours.shape == theirs.shape
    span = theirs.max() - theirs.min()
    assert span > 0.1
    assert (theirs == 0).float().mean() < 0.1
    return float((ours - theirs).abs().max() / span)
