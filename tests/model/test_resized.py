"""A network with patches of 8 pixels that begins with what one with patches of 16 has learned."""

from dataclasses import replace

import pytest
from support.reporting import recording

pytest.importorskip("torch", reason="the networks need PyTorch")

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support.training import write_training

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.train.config import read_training
from dpt_deploy.jobs.train.train import train_model
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.model.resized import same_but_for_patches, with_patches

FINE = load_recipe("tiny-vit").model
COARSE = replace(FINE, name="coarse", encoder=replace(FINE.encoder, patch=16, grid=12))
ANEW = ("reassemble.0.resize.weight", "reassemble.2.resize.bias", "reassemble.2.resize.weight")


@pytest.fixture(scope="module")
def source():
    return random_model(COARSE)


@pytest.fixture(scope="module")
def resized(source):
    return with_patches(source, FINE, seed=0)


def smooth(side):
    """A smooth image, (1, 3, side, side)."""
    coarse = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)


def test_what_has_its_shape_is_kept_and_the_rest_is_named(source, resized):
    model, anew = resized
    assert anew == ANEW
    before, after = source.state_dict(), model.state_dict()
    moved = {key for key, value in after.items() if key in before and not torch.equal(value, before[key])}
    assert moved - set(ANEW) == {"encoder.embed.proj.weight", "encoder.position.table"}
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def relative(one, other):
    return float(((one - other).norm() / other.norm()).detach())


def test_a_patch_of_half_the_side_gives_the_token_it_gave(source, resized):
    coarse, fine = (F.conv2d(smooth(s), m.encoder.embed.proj.weight, m.encoder.embed.proj.bias, stride=s // 12)
                    for s, m in ((192, source), (96, resized[0])))  # fmt: skip
    assert relative(fine, coarse) < 0.1


def test_a_kernel_shrunk_like_an_image_would_be_noticed(source):
    weight = source.encoder.embed.proj.weight
    shrunk = F.interpolate(weight, size=(8, 8), mode="bicubic", antialias=True)
    coarse, fine = (F.conv2d(smooth(s), w, stride=s // 12) for s, w in ((192, weight), (96, shrunk)))
    assert relative(fine, coarse) > 0.5


def test_positions_are_those_of_the_same_places(source, resized):
    before, after = source.encoder.position.table, resized[0].encoder.position.table
    assert torch.equal(before[:, :1], after[:, :1])
    grids = [table[0, 1:].reshape(side, side, -1) for table, side in ((before, 12), (after, 24))]
    middle = F.avg_pool2d(grids[1].permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    assert relative(middle, grids[0]) < 0.35  # random positions are as rough as any can be
    assert relative(middle.flip(0), grids[0]) > 1


def test_a_network_that_differs_in_more_is_refused(source):
    wider = replace(FINE, fusion_channels=FINE.fusion_channels + 16)
    assert not same_but_for_patches(COARSE, wider)
    with pytest.raises(BadFileError, match="differ in more than patches"):
        with_patches(source, wider, seed=0)
    assert not same_but_for_patches(load_recipe("tiny").model, replace(load_recipe("tiny").model, name="other"))


def test_a_training_starts_from_weights_of_other_patches_and_says_so(tmp_path):
    config = read_training(write_training(tmp_path))
    coarse = load_recipe(config.backbone).model
    save_native(random_model(coarse), tmp_path / "coarse.safetensors")
    fine = tmp_path / "fine.toml"
    fine.write_text(
        f'base = "{config.backbone}"\n[model.encoder]\npatch = 8\ngrid = {2 * coarse.encoder.grid}\n', encoding="utf-8"
    )
    still = replace(config.schedule, steps=1, warm_up=0, encoder_rate=0.0, decoder_rate=0.0)
    config = replace(config, backbone=str(fine), start=str(tmp_path / "coarse.safetensors"), schedule=still)
    with recording() as reporter:
        trained = train_model(config, tmp_path / "out", cache=tmp_path / "cache")
    assert any(
        "coarse.safetensors has patches of 16 pixels, which are resized; initialised anew: " in line
        for line in reporter.lines
    )
    after, before = load_file(trained.weights), load_file(tmp_path / "coarse.safetensors")
    assert torch.equal(after["encoder.blocks.0.attn.qkv.weight"], before["encoder.blocks.0.attn.qkv.weight"])
    assert after["encoder.embed.proj.weight"].shape[2:] == (8, 8)
