"""Every published family of checkpoints loads, wholly and into the right places."""

from dataclasses import replace

import pytest
import torch
from support.checkpoints import (
    BASE,
    HYBRID,
    LARGE,
    PUBLISHED,
    Network,
    dpt_main,
    dpt_scriptable,
    midas21,
    random_tensors,
    write_flat,
)
from support.specs import SMALL_VIT

from dpt_deploy.core.errors import BadFileError, ResourceError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_native, load_weights, save_native
from dpt_deploy.model.checkpoints.match import match_keys
from dpt_deploy.model.checkpoints.published import find
from dpt_deploy.model.families.registry import detect
from dpt_deploy.model.random_weights import random_model

TINY = Network(width=32, depth=4, channels=(8, 12, 16, 20), grid=4, fusion=16)


def spec_of(recipe, task="depth"):
    return load_recipe(recipe, task=task).model


@pytest.mark.parametrize(
    ("shapes", "count"),
    [
        (dpt_main(BASE), 224),
        (dpt_main(LARGE), 368),
        (dpt_main(HYBRID), 368),
        (dpt_main(replace(HYBRID, classes=150)), 442),
        (dpt_main(replace(LARGE, classes=150)), 442),
    ],
    ids=["base", "large", "hybrid", "hybrid-ade", "large-ade"],
)
def test_the_generator_has_the_counts_of_the_original_modules(shapes, count):
    assert len(shapes) == count


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.file)
def test_every_published_checkpoint_fits_key_by_key(entry):
    shapes = entry.shapes()
    report, _ = match_keys(spec_of(entry.recipe, entry.task), shapes, detect(shapes, entry.task))
    assert len(shapes) == entry.count
    assert report.fits, (report.missing, report.unexpected, report.wrong_shape)
    assert len(report.used) + len(report.unused) == entry.count
    assert all(reason for _, reason in report.unused)


# Of files with the same keys one is enough: the test above has compared the others key by key.
ROUND_TRIPS = [
    pytest.param(entry, id=entry.file, marks=pytest.mark.slow if entry.recipe == "large" else ())
    for entry in PUBLISHED
    if find(entry.file).default or entry.file in ("dpt_hybrid-midas-d889a10e.pt", "dpt_hybrid-ade20k-a7d10e8d.pt")
]


@pytest.mark.parametrize("entry", ROUND_TRIPS)
def test_every_published_checkpoint_round_trips_through_a_file(entry, tmp_path):
    path = write_flat(tmp_path / entry.file, entry.shapes())
    spec = spec_of(entry.recipe, entry.task)
    model, report = load_weights(spec, path)
    assert report.files == (path,)
    assert model.spec == spec
    assert not model.training
    state = model.state_dict()
    assert all(not tensor.is_meta and not tensor.requires_grad for tensor in state.values())
    assert all((tensor == 0.5).all() for key, tensor in state.items() if "num_batches" not in key)


@pytest.mark.parametrize("make", [dpt_main, dpt_scriptable])
@pytest.mark.parametrize("readout", ["ignore", "add", "project"])
def test_values_land_where_they_belong(make, readout, tmp_path):
    tensors = random_tensors(make(replace(TINY, readout=readout)))
    torch.save(tensors, tmp_path / "tiny.pt")
    model, report = load_weights(replace(SMALL_VIT, readout=readout), tmp_path / "tiny.pt")
    state = model.state_dict()
    for theirs, ours in report.used:
        assert torch.equal(tensors[theirs], state[ours]), (theirs, ours)
    assert torch.equal(state["fusion.0.skip_unit.conv1.bias"], tensors["scratch.refinenet1.resConfUnit1.conv1.bias"])
    assert torch.equal(state["fusion.3.unit.conv2.weight"], tensors["scratch.refinenet4.resConfUnit2.conv2.weight"])
    assert torch.equal(state["neck.3.weight"], tensors["scratch.layer4_rn.weight"])


def test_a_distilled_model_has_class_and_distillation_token_in_this_order(tmp_path):
    tensors = random_tensors(dpt_main(replace(TINY, distilled=True)))
    reversed_order = dict(reversed(tensors.items()))
    torch.save(reversed_order, tmp_path / "deit.pt")
    spec = replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, prefix_tokens=2))
    prefix = load_weights(spec, tmp_path / "deit.pt")[0].state_dict()["encoder.prefix"]
    cls, dist = tensors["pretrained.model.cls_token"], tensors["pretrained.model.dist_token"]
    assert torch.equal(prefix, torch.cat((cls, dist), dim=1))


def test_batch_norm_statistics_are_loaded(tmp_path):
    tensors = random_tensors(dpt_main(replace(TINY, classes=5)))
    torch.save(tensors, tmp_path / "seg.pt")
    state = load_weights(SMALL_VIT.with_classes(5), tmp_path / "seg.pt")[0].state_dict()
    theirs = "scratch.refinenet2.resConfUnit1.bn2.running_var"
    assert torch.equal(state["fusion.1.skip_unit.bn2.running_var"], tensors[theirs])
    assert torch.equal(state["head.bn.running_mean"], tensors["scratch.output_conv.1.running_mean"])


def test_midas_2_1_statistics_and_stages_are_loaded(tmp_path):
    tensors = random_tensors(midas21())
    torch.save(tensors, tmp_path / "midas.pt")
    model, report = load_weights(spec_of("midas-v21"), tmp_path / "midas.pt")
    state = model.state_dict()
    for theirs, ours in report.used:
        assert torch.equal(tensors[theirs], state[ours]), (theirs, ours)
    assert torch.equal(state["encoder.stages.3.2.bn3.running_mean"], tensors["pretrained.layer4.2.bn3.running_mean"])
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 64, 96)


WRAPPERS = {
    "optimizer": lambda state: {"optimizer": {"lr": 1.0}, "model": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 1},
    "nested": lambda state: {"model": {"state_dict": state}},
    "ddp": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled ddp": lambda state: {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrapped_checkpoints_are_unwrapped(wrap, tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    torch.save(wrap(tensors), tmp_path / "wrapped.pt")
    model, _ = load_weights(SMALL_VIT, tmp_path / "wrapped.pt")
    assert torch.equal(model.state_dict()["head.conv1.weight"], tensors["scratch.output_conv.0.weight"])


def test_the_format_of_torch_before_1_6_is_read(tmp_path):
    torch.save(random_tensors(dpt_main(TINY)), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_weights(SMALL_VIT, tmp_path / "old.pt")[1].fits


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype, tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
    torch.save(cast, tmp_path / "half.pt")
    model, _ = load_weights(SMALL_VIT, tmp_path / "half.pt")
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["head.conv2.weight"], cast["scratch.output_conv.2.weight"].float())


def test_blocks_after_the_last_tap_are_left_out_with_a_reason(tmp_path):
    torch.save(random_tensors(dpt_main(replace(TINY, depth=6))), tmp_path / "deep.pt")
    spec = replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, depth=6))
    _, report = load_weights(spec, tmp_path / "deep.pt")
    assert dict(report.unused)["pretrained.model.blocks.5.attn.qkv.weight"] == "block after the last tap (3)"


def test_entries_next_to_the_tensors_are_reported_as_unused(tmp_path):
    torch.save({**random_tensors(dpt_main(TINY)), "epoch": 7}, tmp_path / "extra.pt")
    assert dict(load_weights(SMALL_VIT, tmp_path / "extra.pt")[1].unused)["epoch"] == "not a tensor"


@pytest.mark.parametrize("spec", [SMALL_VIT, SMALL_VIT.with_classes(7)], ids=["depth", "segmentation"])
def test_our_own_format_round_trips_with_its_specification(spec, tmp_path):
    model = random_model(spec, seed=3)
    save_native(model, tmp_path / "tiny.safetensors")
    again, report = load_native(tmp_path / "tiny.safetensors")
    assert again.spec == spec
    assert report.family == "dpt-deploy"
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model(image), again(image))
    assert load_weights(spec, tmp_path / "tiny.safetensors")[0].spec == spec


def test_our_own_format_keeps_numbers_that_no_tensor_shows(tmp_path):
    saved = replace(SMALL_VIT, encoder=replace(SMALL_VIT.encoder, norm_eps=1e-12))
    save_native(random_model(saved), tmp_path / "tiny.safetensors")
    assert load_weights(SMALL_VIT, tmp_path / "tiny.safetensors")[0].spec.encoder.norm_eps == 1e-12
    with pytest.raises(BadFileError, match="readout = 'project'; 'tiny' has 'add'"):
        load_weights(replace(SMALL_VIT, readout="add"), tmp_path / "tiny.safetensors")


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(ResourceError, match="cannot write"):
        save_native(random_model(SMALL_VIT), tmp_path / "absent" / "tiny.safetensors")
    assert list(tmp_path.iterdir()) == []
