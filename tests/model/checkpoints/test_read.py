"""Bad checkpoints: each is one line that says what was found, and a hint; nothing that a file carries is run."""

import io
import os
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.checkpoints import BASE, HYBRID, LARGE, Network, dpt_main, midas21, random_tensors, write_flat
from support.specs import SMALL_VIT

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_native, load_weights, save_native
from dpt_deploy.model.checkpoints.match import CheckpointMismatchError
from dpt_deploy.model.checkpoints.read import read_checkpoint
from dpt_deploy.model.random_weights import random_model

TINY = Network(width=32, depth=4, channels=(8, 12, 16, 20), grid=4, fusion=16)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def failure(spec, source, match=None):
    with pytest.raises(BadFileError, match=match) as caught:
        load_weights(spec, source)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def saved(tmp_path, tensors):
    path = tmp_path / "checkpoint.pt"
    torch.save(tensors, path)
    return path


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"hello")
    return buffer.getvalue()


NOT_CHECKPOINTS = {
    "empty": (b"", "is empty"),
    "text": (b"epoch 3, loss 0.1\n" * 9, "is a text file"),
    "png": (PNG, "is a PNG image"),
    "html": (b"<!DOCTYPE html><title>404</title>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "bytes": (bytes(range(1, 200)), "starts with the bytes 01 02 03 04"),
    "zip": (zipped("photo.txt"), "zip archive, but not a checkpoint"),
    "torchscript": (zipped("net/constants.pkl"), "TorchScript"),
    "cut zip": (zipped("net/data.pkl")[:60], "damaged or cut short"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle, but not one of torch.save"),
    "cut pickle": (pickle.dumps({"a": 1})[:7], "is a pickle, but not one of torch.save"),
    "cut safetensors": (struct.pack("<Q", 900) + b'{"a":{"dtype":"F32"', "damaged or cut short"),
    "bad safetensors": (struct.pack("<Q", 8) + b'{"a": 1}', "damaged or cut short"),
}


@pytest.mark.parametrize(("data", "message"), NOT_CHECKPOINTS.values(), ids=NOT_CHECKPOINTS.keys())
def test_what_is_not_a_checkpoint_is_named_for_what_it_is(data, message, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    failure(SMALL_VIT, path, message)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_checkpoint_is_an_error(part, legacy, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(random_tensors(dpt_main(TINY)), path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    failure(SMALL_VIT, path, "damaged or cut short")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_truncated_safetensors_file_is_an_error(part, tmp_path):
    path = tmp_path / "model.safetensors"
    save_native(random_model(SMALL_VIT), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    failure(SMALL_VIT, path, "damaged or cut short")


def test_missing_file_and_folder_without_weights(tmp_path):
    failure(SMALL_VIT, tmp_path / "absent.pt", "does not exist")
    failure(SMALL_VIT, tmp_path, "has no weights; expected one of model.safetensors")


class Malicious:
    """Unpickled carelessly, it creates the file ``mark``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "protocol 2", "protocol 4"])
def test_a_malicious_pickle_is_refused_and_not_run(form, tmp_path):
    mark, path = tmp_path / "executed", tmp_path / "model.pt"
    payload = {"model": Malicious(mark)}
    if form.startswith("protocol"):
        path.write_bytes(pickle.dumps(payload, protocol=int(form[-1])))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    error = failure(SMALL_VIT, path, r"would run code \((posix|nt|os)\.system\)")
    assert "do not trust it" in error.hint
    assert not mark.exists()
    pickle.loads(pickle.dumps(payload))  # the trap itself works
    assert mark.exists()


def test_a_malicious_bin_in_a_folder_is_refused(tmp_path):
    mark = tmp_path / "executed"
    torch.save({"a": Malicious(mark)}, tmp_path / "pytorch_model.bin")
    failure(SMALL_VIT, tmp_path, "would run code")
    assert not mark.exists()


def test_a_file_without_a_state_dict_is_an_error(tmp_path):
    failure(SMALL_VIT, saved(tmp_path, [torch.zeros(2)]), "holds a list; expected a state dict")
    failure(SMALL_VIT, saved(tmp_path, {"epoch": 3}), "holds no tensors .its entries: epoch")


def test_a_checkpoint_that_holds_itself_does_not_loop(tmp_path):
    entries = {}
    entries["model"] = entries
    failure(SMALL_VIT, saved(tmp_path, entries), "holds no tensors")


def test_a_missing_key_is_named(tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    del tensors["pretrained.model.blocks.2.norm1.bias"]
    error = failure(SMALL_VIT, saved(tmp_path, tensors), "1 missing")
    assert isinstance(error, CheckpointMismatchError)
    assert error.keys.missing == ("pretrained.model.blocks.2.norm1.bias",)


def test_an_extra_key_is_named(tmp_path):
    tensors = {**random_tensors(dpt_main(TINY)), "pretrained.model.blocks.0.ls1.gamma": torch.ones(32)}
    error = failure(SMALL_VIT, saved(tmp_path, tensors), "1 unexpected")
    assert error.keys.unexpected == ("pretrained.model.blocks.0.ls1.gamma",)


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    tensors["scratch.layer3_rn.weight"] = torch.zeros(16, 9, 3, 3)
    error = failure(SMALL_VIT, saved(tmp_path, tensors), "1 of wrong shape")
    wrong = error.keys.wrong_shape[0]
    assert (wrong.key, wrong.found, wrong.expected) == ("scratch.layer3_rn.weight", "(16, 9, 3, 3)", "(16, 16, 3, 3)")


def test_readout_weights_for_a_network_without_are_unexpected(tmp_path):
    error = failure(replace(SMALL_VIT, readout="ignore"), saved(tmp_path, random_tensors(dpt_main(TINY))))
    assert len(error.keys.unexpected) == 8
    assert not error.keys.missing


def test_two_names_for_one_parameter_are_an_error(tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    tensors["pretrained.act_postprocess4.0.project.0.weight"] = torch.zeros(32, 64)
    tensors["module.scratch.layer1_rn.weight"] = torch.zeros(16, 8, 3, 3)
    assert failure(SMALL_VIT, saved(tmp_path, tensors)).keys.unexpected == ("module.scratch.layer1_rn.weight",)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_an_error(bad, tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    tensors["scratch.output_conv.2.weight"][0, 0, 0, 0] = bad
    failure(SMALL_VIT, saved(tmp_path, tensors), r"scratch.output_conv.2.weight has 1 of [\d,]+ values that are NaN")


def test_integer_weights_are_an_error(tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    tensors["scratch.output_conv.2.weight"] = torch.zeros(32, 8, 3, 3, dtype=torch.int8)
    failure(SMALL_VIT, saved(tmp_path, tensors), "type int8")


@pytest.mark.parametrize(
    ("shapes", "asked", "fits"),
    [
        (dpt_main(LARGE), "hybrid", "large"),
        (dpt_main(HYBRID), "large", "hybrid or hybrid-kitti or hybrid-nyu"),
        (dpt_main(BASE), "hybrid", "base"),
        (dpt_main(replace(BASE, distilled=True)), "base", "deit-distilled"),
        (midas21(), "resnext101", "midas-v21"),
    ],
    ids=["large", "hybrid", "base", "deit", "midas"],
)
def test_a_checkpoint_for_another_network_names_it(shapes, asked, fits, tmp_path):
    error = failure(load_recipe(asked).model, write_flat(tmp_path / "other.pt", shapes), f"does not fit '{asked}'")
    assert error.hint.startswith(f"it fits {fits}: use --backbone {fits.split()[0]}")


def test_the_other_task_is_reported(tmp_path):
    path = saved(tmp_path, random_tensors(dpt_main(replace(TINY, classes=5))))
    assert "--task segmentation" in failure(SMALL_VIT, path, "holds a segmentation model").hint


def test_another_number_of_classes_is_reported(tmp_path):
    path = saved(tmp_path, random_tensors(dpt_main(replace(TINY, classes=60))))
    error = failure(SMALL_VIT.with_classes(150), path, "has 60 classes; 'tiny' was asked for 150")
    assert error.hint == "use --classes 60"


FOREIGN = {
    "zoe depth": ({"core.core.depth_head.scratch.layer1_rn.weight": torch.zeros(1)}, "ZoeDepth"),
    "nothing known": ({"conv.weight": torch.zeros(1)}, "its keys are like conv.weight"),
}


@pytest.mark.parametrize(("tensors", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_other_networks_are_distinguished(tensors, message, tmp_path):
    failure(SMALL_VIT, saved(tmp_path, tensors), message)


def test_a_beit_encoder_is_named(tmp_path):
    tensors = random_tensors(dpt_main(TINY))
    tensors["pretrained.model.blocks.0.attn.relative_position_bias_table"] = torch.zeros(4, 2)
    failure(SMALL_VIT, saved(tmp_path, tensors), "isl-org/MiDaS 3.1 BEiT keys")


def test_only_our_own_files_describe_themselves(tmp_path):
    with pytest.raises(BadFileError, match="does not say which network"):
        load_native(saved(tmp_path, random_tensors(dpt_main(TINY))))


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(BadFileError, match="is not a regular file"):
        read_checkpoint(tmp_path / "weights.pth")


def test_tensors_on_the_device_meta_are_refused(tmp_path):
    torch.save({"weight": torch.empty(3, device="meta")}, tmp_path / "weights.pth")
    with pytest.raises(BadFileError, match="has a shape but no values"):
        read_checkpoint(tmp_path / "weights.pth")


def packed(path, name, size):
    """A checkpoint whose member ``name`` holds ``size`` bytes of one value, deflated."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02}.")
        archive.writestr(name, b"N" * size)
    return path


@pytest.mark.parametrize(
    ("name", "variable"),
    [("weights/more.pkl", "DPT_DEPLOY_MAX_PICKLE"), ("weights/data/0", "DPT_DEPLOY_MAX_UNPACKED")],
    ids=["pickle", "weights"],
)
def test_what_is_far_larger_unpacked_is_refused_before_it_is_read(name, variable, tmp_path, monkeypatch):
    path = packed(tmp_path / "weights.pth", name, 3 << 20)
    monkeypatch.setenv(variable, "2M")
    with pytest.raises(BadFileError, match="expected at most 2,097,152") as caught:
        read_checkpoint(path)
    assert variable in caught.value.hint
    monkeypatch.setenv(variable, "4M")
    with pytest.raises(BadFileError, match="is damaged"):  # past the limit
        read_checkpoint(path)
