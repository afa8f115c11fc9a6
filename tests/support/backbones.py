"""Hugging Face's DPT on BEiT or Swin V2 as an oracle: its configuration, written down independently, random values."""

import torch
import transformers
from support.random_values import fill
from torch import nn

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def backbone_config(spec):
    """Hugging Face's configuration of the encoder, written down from its documentation."""
    encoder = spec.encoder
    if encoder.kind == "beit":
        return transformers.BeitConfig(
            image_size=16 * encoder.grid,
            patch_size=16,
            hidden_size=encoder.width,
            intermediate_size=4 * encoder.width,
            num_hidden_layers=encoder.depth,
            num_attention_heads=encoder.heads,
            use_relative_position_bias=True,
            reshape_hidden_states=False,
            out_features=[f"stage{tap + 1}" for tap in spec.taps],
            layer_norm_eps=1e-6,
        )
    return transformers.Swinv2Config(
        image_size=4 * encoder.grid,
        embed_dim=encoder.width,
        depths=list(encoder.depths),
        num_heads=list(encoder.heads),
        window_size=encoder.window,
        pretrained_window_sizes=list(encoder.pretrained_windows),
        out_features=STAGES,
    )


def backbone_oracle(spec, *, calm=False):
    """Hugging Face's network with random values in every parameter; ``calm``: ones that bear rounding to 8 bits."""
    config = transformers.DPTConfig(
        backbone_config=backbone_config(spec),
        neck_hidden_sizes=list(spec.reassemble_channels),
        fusion_hidden_size=spec.fusion_channels,
    )
    model = transformers.DPTForDepthEstimation(config).eval()
    generator = torch.Generator().manual_seed(0)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            _fill(name, tensor, norm=name.rpartition(".")[0] in norms, calm=calm, generator=generator)
        seen = []
        handle = model.head.head[4].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        backbone_output(model, torch.randn(1, 3, 128, 128, generator=generator))
        handle.remove()
        model.head.head[4].bias += 5 * seen[0].std() - seen[0].mean()  # the last ReLU cuts next to nothing
    return model


def backbone_output(model, pixels):
    with torch.inference_mode():
        return model(pixels).predicted_depth


def _fill(name, tensor, *, norm, calm, generator):
    if name.endswith(("lambda_1", "lambda_2")):
        tensor.uniform_(*((0.2, 0.4) if calm else (0.6, 1.4)), generator=generator)
    elif norm and name.endswith("weight"):
        tensor.uniform_(0.6, 1.4, generator=generator)
    elif name.endswith("logit_scale"):  # up to 5.5 some are above ln 100, where the network clamps
        tensor.uniform_(1.5, 3.0 if calm else 5.5, generator=generator)
    else:
        fill(name, tensor, generator)
