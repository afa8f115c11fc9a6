"""MiDaS 3.1: files of the published keys and shapes find their places, and wrong ones are refused with a reason."""

import pytest
import torch
from support.midas31 import PUBLISHED, beit, swin2
from support.tiny import tiny_model, tiny_spec

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.match import match_keys
from dpt_deploy.model.families.registry import detect

pytestmark = pytest.mark.needs("torch")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_keys_fit(name):
    shapes, count = PUBLISHED[name][0](), PUBLISHED[name][1]
    assert count in (None, len(shapes))
    family, recipe = detect(shapes), load_recipe(name)
    matched, _ = match_keys(recipe.model, shapes, family)
    assert matched.fits, matched.lines()[-5:]
    assert family.name.startswith("isl-org/MiDaS 3.1 ")
    assert not family.image.differences(recipe.image)
    reasons = dict(matched.unused)
    assert len(matched.used) + len(reasons) == len(shapes)
    assert all("relative_position_index" in key or "attn_mask" in key or "norm" in key or "head" in key
               or "resConfUnit1" in key for key in reasons)  # fmt: skip


def test_the_width_of_another_network_does_not_fit():
    shapes = PUBLISHED["swin2-base-384"][0]()
    matched, _ = match_keys(load_recipe("swin2-large-384").model, shapes, detect(shapes))
    assert matched.wrong_shape
    assert not matched.missing


ORIGINAL = {  # our name to the file's, written down by hand
    "encoder.prefix": "pretrained.model.cls_token",
    "encoder.embed.": "pretrained.model.patch_embed.",
    "encoder.blocks.": "pretrained.model.blocks.",
    "encoder.stages.": "pretrained.model.layers.",
    ".merge.": ".downsample.",
    ".attn.position.table": ".attn.relative_position_bias_table",
    ".attn.scores.table": ".attn.relative_position_bias_table",
    ".attn.scores.position.": ".attn.cpb_mlp.",
    ".attn.scores.logit_scale": ".attn.logit_scale",
    ".skip_unit.": ".resConfUnit1.",
    ".unit.": ".resConfUnit2.",
    "head.conv1.": "scratch.output_conv.0.",
    "head.conv2.": "scratch.output_conv.2.",
    "head.conv3.": "scratch.output_conv.4.",
    **{f"fusion.{k}.": f"scratch.refinenet{k + 1}." for k in range(4)},
    **{f"neck.{k}.": f"scratch.layer{k + 1}_rn." for k in range(4)},
    **{f"reassemble.{k}.readout.project.": f"pretrained.act_postprocess{k + 1}.0.project.0." for k in range(4)},
    **{f"reassemble.{k}.projection.": f"pretrained.act_postprocess{k + 1}.3." for k in range(4)},
    **{f"reassemble.{k}.resize.": f"pretrained.act_postprocess{k + 1}.4." for k in range(4)},
}


def as_published(name):
    for ours, theirs in ORIGINAL.items():
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("name", ["tiny-beit", "tiny-swin2", "tiny-swin"])
def test_every_value_arrives(name, tmp_path):
    expected = tiny_model(name).state_dict()
    torch.save({as_published(key): value for key, value in expected.items()}, tmp_path / "midas.pt")
    model, matched = load_weights(tiny_spec(name), tmp_path / "midas.pt")
    assert matched.family.startswith("isl-org/MiDaS 3.1 ")
    assert all(torch.equal(expected[key], value) for key, value in model.state_dict().items())


def test_a_missing_table_has_its_published_name(tmp_path):
    state = {as_published(key): value for key, value in tiny_model("tiny-beit").state_dict().items()}
    del state["pretrained.model.blocks.2.attn.relative_position_bias_table"]
    torch.save(state, tmp_path / "midas.pt")
    with pytest.raises(BadFileError, match=r"1 missing \(pretrained.model.blocks.2.attn.relative_position_bias_table "):
        load_weights(tiny_spec("tiny-beit"), tmp_path / "midas.pt")


def test_a_file_of_another_size_names_the_network_that_it_fits():
    small, large = beit(48, 4, 3, 6, (16, 24, 32, 48)), beit(48, 4, 3, 8, (16, 24, 32, 48))
    assert match_keys(tiny_spec("tiny-beit"), small, detect(small))[0].wrong_shape  # the decoder is of 256 channels
    tables = [
        w.key for w in match_keys(tiny_spec("tiny-beit"), large, detect(large))[0].wrong_shape if "table" in w.key
    ]
    assert len(tables) == 4


def test_families_do_not_take_each_other_s_files():
    assert detect(swin2(96, (1, 1, 1, 1), (3, 6, 12, 24))).name == "isl-org/MiDaS 3.1 Swin V2"
    assert detect(beit(48, 4, 3, 6, (16, 24, 32, 48))).name == "isl-org/MiDaS 3.1 BEiT"
