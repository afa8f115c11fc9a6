"""Training checkpoints: the network is found in every wrapping, and everything else in the file is reported."""

import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from support.checkpoints import Network, dpt_main, random_tensors
from support.specs import SMALL_VIT

from dpt_deploy import cli
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.model.checkpoints.load import load_weights, save_native
from dpt_deploy.model.checkpoints.state_dicts import find_state_dict
from dpt_deploy.model.random_weights import random_model

VIT = "tests/support/recipes/tiny-vit.toml"
NETWORK = Network(width=32, depth=4, channels=(8, 12, 16, 20), grid=4, fusion=16)
RAW = random_tensors(dpt_main(NETWORK), seed=1)
AVERAGED = {key: value / 2 for key, value in RAW.items()}


def under(prefix, tensors=RAW):
    return {f"{prefix}{key}": value for key, value in tensors.items()}


# name: (content of the file, the place that is taken)
WRAPPINGS = {
    "bare": (RAW, ""),
    "lightning": ({"state_dict": under("model."), "epoch": 3, "optimizer_states": [{}]}, "state_dict.model"),
    "lightning with a loss and a metric": (
        {"state_dict": {**under("model."), "criterion.weight": torch.ones(3), "val.sum": torch.zeros(())}},
        "state_dict.model",
    ),
    "lightning under another attribute": ({"state_dict": under("net.")}, "state_dict.net"),
    "deep prefix": ({"state_dict": under("task.student.backbone.")}, "state_dict.task.student.backbone"),
    "AveragedModel": ({"n_averaged": torch.tensor(5), **under("module.")}, "module"),
    "DataParallel inside Lightning": ({"state_dict": under("module.model.")}, "state_dict.module.model"),
    "compiled": (under("_orig_mod."), ""),
    "compiled inside": (
        {f"model.{key.replace('model.', 'model._orig_mod.', 1)}": v for key, v in RAW.items()},
        "model",
    ),
    "sharded and checkpointed": (under("_fsdp_wrapped_module.net._checkpoint_wrapped_module."), "net"),
    "net": ({"net": RAW, "epoch": 1}, "net"),
    "params_ema alone": ({"params_ema": RAW}, "params_ema"),
    "DeepSpeed": ({"module": RAW, "ds_version": "0.14"}, "module"),
    "ema alone": ({"ema": RAW}, "ema"),
    "model_state": ({"model_state": RAW, "epoch": 1}, "model_state"),
    "an unknown name": ({"the_weights": OrderedDict(RAW)}, "the_weights"),
    "nested": ({"checkpoint": {"model": under("module.")}}, "checkpoint.model.module"),
    "raw and averaged": ({"model": RAW, "model_ema": AVERAGED, "optimizer": {}}, "model"),
    "averaged first": ({"params_ema": AVERAGED, "params": RAW}, "params"),
    "one object under two names": ({"params_ema": RAW, "params": RAW}, "params"),
    "raw and averaged in one": ({"state_dict": {**under("ema_model.", AVERAGED), **under("net.")}}, "state_dict.net"),
    "averaged inside": ({"state_dict": {**under("model."), **under("model.ema.", AVERAGED)}}, "state_dict.model"),
    "usual next to unusual": ({"teacher": AVERAGED, "model": RAW}, "model"),
}


def saved(tmp_path, content):
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return path


def holds(model, tensors):
    return torch.equal(model.state_dict()["neck.0.weight"], tensors["scratch.layer1_rn.weight"])


@pytest.mark.parametrize(("content", "place"), WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_the_network_is_found(content, place, tmp_path):
    model, report = load_weights(SMALL_VIT, saved(tmp_path, content))
    assert holds(model, RAW)
    assert report.entry == place


def test_everything_in_the_file_is_mentioned(tmp_path):
    content = {
        "state_dict": {**under("model."), "criterion.weight": torch.ones(3), "step": 7, "inner": {"a": 1}},
        "model_ema": AVERAGED,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "epoch": 3,
        "rng": torch.zeros(4),
        5: "five",
    }
    _, report = load_weights(SMALL_VIT, saved(tmp_path, content))
    reasons = dict(report.unused)
    assert reasons["model_ema"] == "another network (--entry model_ema takes it)"
    assert reasons["optimizer"] == "dict of 2, not of the network"
    assert reasons["criterion.weight"] == "not under 'model.'"
    assert (reasons["epoch"], reasons["step"], reasons["5"]) == ("not a tensor",) * 3
    assert reasons["rng"] == "tensor outside the network"
    assert reasons["state_dict.inner"] == "dict of 1, not of the network"
    assert "from 'state_dict.model'" in str(report)
    assert "not taken: model_ema (--entry chooses)" in str(report)


def test_an_entry_chooses_another_network(tmp_path):
    source = saved(tmp_path, {"model": RAW, "model_ema": AVERAGED})
    model, report = load_weights(SMALL_VIT, source, entry="model_ema")
    assert holds(model, AVERAGED)
    assert (report.entry, report.others) == ("model_ema", ("model",))
    with pytest.raises(BadFileError, match=r"no network at 'ema'; networks found: model, model_ema") as caught:
        load_weights(SMALL_VIT, source, entry="ema")
    assert "--entry" in caught.value.hint


def test_several_networks_of_equal_rank_are_an_error_that_names_them(tmp_path):
    content = {"state_dict": {**under("student."), **under("teacher.", AVERAGED)}}
    with pytest.raises(BadFileError, match=r"holds 2 networks: state_dict.student, state_dict.teacher") as caught:
        load_weights(SMALL_VIT, saved(tmp_path, content))
    assert caught.value.hint == "choose one, for example --entry state_dict.student"


def test_a_missing_key_under_a_prefix_is_still_an_error(tmp_path):
    tensors = under("net.")
    tensors["loss.scratch.layer1_rn.weight"] = tensors.pop("net.scratch.layer1_rn.weight")
    with pytest.raises(BadFileError, match=r"1 missing \(scratch.layer1_rn.weight\)"):
        load_weights(SMALL_VIT, saved(tmp_path, tensors))


def test_a_surplus_key_under_the_prefix_is_still_an_error(tmp_path):
    with pytest.raises(BadFileError, match=r"1 unexpected \(extra.weight\)"):
        load_weights(SMALL_VIT, saved(tmp_path, under("net.") | {"net.extra.weight": torch.ones(1)}))


def test_an_unknown_network_in_a_wrapper_is_named_by_its_keys(tmp_path):
    with pytest.raises(BadFileError, match=r"its keys are like conv\.weight"):
        load_weights(SMALL_VIT, saved(tmp_path, {"net": {"conv.weight": torch.ones(1)}, "epoch": 1}))


def test_a_crafted_file_of_many_dictionaries_takes_no_time(tmp_path):
    crafted = dict(RAW)
    crafted |= {f"d{index}": crafted for index in range(200)}
    found = find_state_dict(crafted, Path("crafted.pth"))
    assert found.entry == ""
    assert len(found.values) >= len(RAW)


# --- archives that were packed again ----------------------------------------------------------------------------------


def packed_again(tmp_path, packing, *, only=lambda name: True):
    source, target = saved(tmp_path, RAW), tmp_path / "packed.pth"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compress_type=packing if only(name) else zipfile.ZIP_STORED)
    return source, target


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("part", ["", "/data/3"], ids=["all", "one"])
def test_an_archive_that_was_packed_again_has_the_same_weights(packing, part, tmp_path):
    source, packed = packed_again(tmp_path, packing, only=lambda name: part in name)
    wanted, found = (load_weights(SMALL_VIT, path)[0].state_dict() for path in (source, packed))
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def test_mapped_memory_would_hold_other_bytes(tmp_path):
    """The fault that the test above guards against."""
    _, packed = packed_again(tmp_path, zipfile.ZIP_DEFLATED)
    mapped = torch.load(packed, weights_only=True, mmap=True)
    assert not all(torch.equal(value, RAW[key]) for key, value in mapped.items())


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], ids=["lzma", "bzip2"])
def test_another_compression_is_refused_with_the_reason(packing, tmp_path):
    _, packed = packed_again(tmp_path, packing)
    with pytest.raises(BadFileError, match="packed again by a method that PyTorch does not read") as caught:
        load_weights(SMALL_VIT, packed)
    assert "zip -0" in caught.value.hint


# --- through the commands ---------------------------------------------------------------------------------------------


def test_the_command_says_what_is_taken_and_takes_what_is_named(tmp_path, capsys):
    spec = load_recipe(VIT).model
    raw, averaged = random_model(spec, seed=1).state_dict(), random_model(spec, seed=2).state_dict()
    source = saved(tmp_path, {"model": raw, "model_ema": averaged, "epoch": 1})
    for entry, wanted in ((None, raw), ("model_ema", averaged)):
        options = ["--entry", entry] if entry else []
        command = ["convert", "--backbone", VIT, "--weights", str(source), "--to", "native", "-o", str(tmp_path / "o")]
        assert cli.call([*command, *options, "--keys"]) == 0
        messages = capsys.readouterr().err
        assert ("not taken: model_ema (--entry chooses)" in messages) == (entry is None)
        assert "epoch: not a tensor" in messages
        written, _ = load_weights(spec, tmp_path / "o" / "tiny-vit.safetensors")
        assert torch.equal(written.state_dict()["neck.0.weight"], wanted["neck.0.weight"])


def test_an_entry_needs_a_file(tmp_path):
    with pytest.raises(UsageError, match="--entry model_ema names a part of a checkpoint file"):
        resolve_weights("random", load_recipe(VIT), entry="model_ema")
    source = saved(tmp_path, RAW)
    found = resolve_weights(str(source), load_recipe(VIT), entry="a")
    assert (found.kind, found.path, found.entry) == ("file", str(source), "a")


def test_a_link_keeps_its_own_name_and_folder(tmp_path):
    save_native(random_model(load_recipe(VIT).model), tmp_path / "blob")
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / "blob")
    assert resolve_weights(str(link), load_recipe(VIT)).path == str(link)
