"""Encoder specifications: the kind chooses the class, and tables written with the keys of all kinds still load."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal

import pytest

from dpt_deploy.core import encoders
from dpt_deploy.core.decode import decode
from dpt_deploy.core.encoders import CNNSpec, EncoderSpec, HybridSpec, ViTSpec, register_encoder_spec
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe

pytestmark = pytest.mark.fast

# As sidecars of format 1 have it: the keys of all kinds, whatever the kind.
FLAT = {
    "width": 48,
    "depth": 4,
    "heads": 3,
    "patch": 16,
    "grid": 6,
    "prefix_tokens": 1,
    "norm_eps": 1e-6,
    "stem_channels": 64,
    "stage_blocks": [1, 2, 1],
    "stage_channels": [64, 128, 256],
    "weight_standardisation": "sum",
    "timm_name": "resnet18",
    "position_resize": "tiled",
}
SPECS = {
    "vit": ViTSpec(width=48, depth=4, heads=3, grid=6, position_resize="tiled"),
    "hybrid": HybridSpec(
        width=48,
        depth=4,
        heads=3,
        grid=6,
        position_resize="tiled",
        stage_blocks=(1, 2, 1),
        stage_channels=(64, 128, 256),
        weight_standardisation="sum",
    ),
    "cnn": CNNSpec(timm_name="resnet18", stage_blocks=(1, 2, 1), stage_channels=(64, 128, 256)),
}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(encoders, "ENCODER_SPECS", dict(encoders.ENCODER_SPECS))


@pytest.mark.parametrize("kind", SPECS)
def test_a_table_with_the_keys_of_all_kinds_is_read(kind):
    assert decode(EncoderSpec, {"kind": kind, **FLAT}) == SPECS[kind]


@pytest.mark.parametrize("kind", SPECS)
def test_what_is_written_has_the_keys_of_its_kind_only_and_is_read_again(kind):
    table = asdict(SPECS[kind])
    assert ("heads" in table, "timm_name" in table) == (kind != "cnn", kind == "cnn")
    assert decode(EncoderSpec, table) == SPECS[kind]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**FLAT, "kind": "mixer"}, "encoder.kind is 'mixer'; expected "),
        (FLAT, "encoder.kind is missing"),
        ({**FLAT, "kind": {"kind": "vit"}}, "encoder.kind is {'kind': 'vit'}; expected "),
        ({**FLAT, "kind": "vit", "heads": "three"}, "encoder.heads is 'three'"),
        (5, "encoder is 5; expected an object"),
    ],
    ids=["unknown", "missing", "a table", "wrong type", "no table"],
)
def test_a_wrong_table_is_refused_with_its_place(table, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decode(EncoderSpec, table, "encoder")


def test_a_recipe_that_changes_the_kind_leaves_out_inherited_keys(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "hybrid"\n[model]\ntaps = [2, 5, 8, 11]\n[model.encoder]\nkind = "vit"\n', encoding="utf-8")
    assert load_recipe(str(path)).model.encoder == load_recipe("base").model.encoder


def test_a_key_of_no_kind_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "base"\n[model.encoder]\nlenses = 12\n', encoding="utf-8")
    with pytest.raises(BadFileError, match=r"unknown key model\.encoder\.'lenses'"):
        load_recipe(str(path))


def test_a_registered_kind_is_read_and_its_keys_are_known(registry):
    @register_encoder_spec
    @dataclass(frozen=True, kw_only=True)
    class WindowSpec(EncoderSpec):
        kind: Literal["window"] = "window"
        window: int = 7

    assert decode(EncoderSpec, {"kind": "window", "window": 5, "heads": 3}) == WindowSpec(window=5)


@pytest.mark.parametrize(("kind", "strides"), [("vit", (4, 8, 16, 32)), ("cnn", (4, 8, 16, 32))])
def test_strides_are_those_of_the_paper(kind, strides):
    assert SPECS[kind].strides == strides


@pytest.mark.parametrize(
    ("name", "windows", "step"),
    [
        ("swin2-base-384", ((24, 12), (24, 12), (24, 0), (12, 0)), 96),
        ("swin2-tiny-256", ((16, 8), (16, 8), (16, 0), (8, 0)), 64),
        ("swin-large-384", ((12, 6), (12, 6), (12, 6), (12, 0)), 96),
    ],
)
def test_windows_are_those_of_the_training_size(name, windows, step):
    model = load_recipe(name).model
    assert model.encoder.windows == windows
    assert model.encoder.size_step == model.stride == step


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("swin2-tiny-256", {"encoder": {"window": 14, "grid": 56}}, "multiples of 224"),
        ("swin2-tiny-256", {"stride": 32}, "stride 32; this encoder takes sides that are multiples of 64"),
        ("swin2-tiny-256", {"encoder": {"depths": [2, 2]}}, "2 depths and 4 heads"),
        ("swin2-tiny-256", {"encoder": {"heads": [3, 6, 12, 25]}}, "25 heads of a width of 768"),
        ("swin2-tiny-256", {"encoder": {"pretrained_windows": [8]}}, "1 pretrained_windows"),
        ("swin-large-384", {"encoder": {"grid": 92}}, "grid is 92"),
        ("swin-large-384", {"encoder": {"depths": [2, 2, 1 << 19, 2]}}, "blocks with"),
        ("beit-base-384", {"encoder": {"heads": 7}}, "7 heads of a width of 768"),
        ("beit-base-384", {"encoder": {"patch": 14}}, "patches of 14 pixels"),
        ("beit-base-384", {"encoder": {"grid": 1024, "heads": 768}}, "more than"),
    ],
    ids=str,
)
def test_numbers_that_no_network_has_are_named(name, changes, problem):
    with pytest.raises(BadFileError, match=problem):
        load_recipe(name, model=changes)
