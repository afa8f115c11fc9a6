"""Networks that the zoo does not have are refused by name; the marks are held to the keys of transformers."""

import pytest
import torch
from support.specs import SMALL_VIT

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.families.foreign import FOREIGN
from dpt_deploy.model.families.registry import foreign

transformers = pytest.importorskip("transformers")

FOREIGN_KEYS = {
    "core.core.pretrained.blocks.0.norm1.weight": "ZoeDepth",
    "model.backbone.pretrained.camera_token": "any-view",
    "head.motion_modules.0.temporal_transformer.proj_in.weight": "Video Depth Anything",
    "decode_head.conv_depth.weight": "MMSegmentation",
    "normals_head.reassemble.readout_projects.0.weight": "TIPSv2-DPT",
}


@pytest.mark.parametrize(("key", "named"), FOREIGN_KEYS.items())
def test_a_network_that_the_zoo_does_not_have_is_named(key, named, tmp_path):
    torch.save({key: torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(BadFileError, match=named):
        load_weights(SMALL_VIT, tmp_path / "other.pt")


def _small_dinov2(transformers):
    return transformers.Dinov2Config(
        hidden_size=12,
        num_hidden_layers=4,
        num_attention_heads=3,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )


HUGGING_FACE = {
    "ZoeDepth": lambda hf: hf.ZoeDepthForDepthEstimation(hf.ZoeDepthConfig()),
    "Depth Pro": lambda hf: hf.DepthProForDepthEstimation(hf.DepthProConfig()),
    "Prompt Depth Anything": lambda hf: hf.PromptDepthAnythingForDepthEstimation(
        hf.PromptDepthAnythingConfig(backbone_config=_small_dinov2(hf))
    ),
    "GLPN": lambda hf: hf.GLPNForDepthEstimation(hf.GLPNConfig(depths=[1, 1, 1, 1])),
    "CHMv2": lambda hf: hf.CHMv2ForDepthEstimation(hf.CHMv2Config()),
    "TIPSv2-DPT": lambda hf: hf.Tipsv2DptForDepthEstimation(hf.Tipsv2DptConfig()),
}


@pytest.mark.parametrize("named", HUGGING_FACE)
def test_networks_of_transformers_are_named_by_their_own_keys(named):
    with torch.device("meta"):
        keys = list(HUGGING_FACE[named](transformers).state_dict())
    assert named in foreign(keys)


def test_a_network_that_the_zoo_has_is_not_called_foreign():
    with torch.device("meta"):
        config = transformers.DPTConfig(hidden_size=12, num_hidden_layers=12, num_attention_heads=3)
        keys = list(transformers.DPTForDepthEstimation(config).state_dict())
    assert not any(part in key for part, _ in FOREIGN for key in keys)
