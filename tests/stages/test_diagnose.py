"""``dpt-deploy diagnose``: a planted overflow is named, with what must stay FP32; a sound file is found sound."""

import json

import pytest
from support.faults.calling import complaint
from support.faults.precision import BLOCK, overflow
from support.tiny import exported, tampered

from dpt_deploy.cli import call
from dpt_deploy.core.artifact import sha256_of


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    return tampered(exported("tiny-vit", precision="fp16"), tmp_path_factory.mktemp("spoiled"), overflow)


def diagnosed(capsys, code, path, *more):
    assert call(["diagnose", str(path), "--res", "64", "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


def test_a_planted_overflow_is_named_with_what_must_stay_wide(spoiled, capsys):
    before = sha256_of(spoiled.path)
    found = diagnosed(capsys, 5, spoiled.path)
    assert found["max"] is None
    assert found["not_finite"].startswith(f"{BLOCK}.qkv")
    assert found["keep_fp32"]
    assert all(name.startswith(BLOCK) for name in found["keep_fp32"])
    assert f"{BLOCK}/Attention" in found["keep_fp32"]
    assert found["headroom"][0]["times"] < 1
    assert found["headroom"][0]["tensor"].startswith(BLOCK)
    assert sha256_of(spoiled.path) == before


def test_it_says_so_to_a_person(spoiled, capsys):
    assert call(["diagnose", str(spoiled.path), "--res", "64"]) == 5
    out, err = capsys.readouterr()
    assert "least headroom at 64" in out
    assert f"{BLOCK}/Attention" in out
    assert f"is not finite from {BLOCK}.qkv" in " ".join(err.split())


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-metric"])
def test_a_sound_file_is_found_sound(name, capsys):
    found = diagnosed(capsys, 0, exported(name, precision="fp16").path)
    assert (found["not_finite"], found["diverges_at"], found["keep_fp32"]) == (None, None, [])
    assert 0 < found["max"] <= found["tolerance"]["max"]
    assert min(each["times"] for each in found["headroom"]) > 8


def test_what_is_not_of_16_bits_is_refused(capsys):
    assert "no narrow types" in complaint(capsys, 2, "diagnose", exported("tiny-vit").path)


def test_a_size_that_cannot_be_is_refused(capsys):
    assert "legal sizes" in complaint(capsys, 2, "diagnose", exported("tiny-vit", precision="fp16").path, "--res", "65")
