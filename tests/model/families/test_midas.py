"""MiDaS files on Next-ViT, LeViT and EfficientNet-Lite: their keys, and the whole network against plain functions."""

import hashlib
import json

import pytest
import torch
from support.midas_networks import PUBLISHED, SIZES, TINY_SHAPES, distance, drawn, image
from support.paths import TESTS
from support.plain_decoder import decode
from support.tiny import tiny_spec

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.match import CheckpointMismatchError, match_keys
from dpt_deploy.model.families.registry import detect
from dpt_deploy.model.rewrites.exact import deployable

LIMIT = 1e-5
KEYS = json.loads((TESTS / "golden" / "midas_keys.json").read_text())
FAMILIES = {
    "next-vit-large-384": "isl-org/MiDaS 3.1 Next-ViT",
    "levit-224": "isl-org/MiDaS 3.1 LeViT",
    "midas-v21-small": "isl-org/MiDaS 2.1 small",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_keys_and_shapes_fit_strictly(name):
    shapes = PUBLISHED[name]()
    listing = "\n".join(f"{key} {list(shape)}" for key, shape in sorted(shapes.items()))
    assert KEYS[name] == {"keys": len(shapes), "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    family = detect(shapes)
    assert family.name == FAMILIES[name]
    recipe = load_recipe(name)
    matched, _ = match_keys(recipe.model, shapes, family)
    assert matched.fits
    assert not family.image.differences(recipe.image)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """By tiny recipe: the file's tensors, and the network that was loaded from it."""
    made = {}
    for name, shapes in TINY_SHAPES.items():
        path = tmp_path_factory.mktemp(name) / "weights.pt"
        torch.save(drawn(shapes()), path)
        made[name] = drawn(shapes()), load_weights(tiny_spec(name), path)[0]
    return made


@pytest.mark.parametrize("name", TINY_SHAPES)
def test_the_network_equals_plain_functions_of_the_file_s_tensors(name, loaded):
    state, model = loaded[name]
    small = name == "tiny-midas-small"
    for (height, width), batch in zip(SIZES[name], (3, 1), strict=False):
        x = image(height, width, batch)
        expected = decode(state, model.encoder(x), head_corners=not small)
        assert expected.shape == (batch, height, width)
        assert distance(model(x), expected) < LIMIT
        assert distance(deployable(model)(x), expected) < LIMIT


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("tiny-nextvit", {"corners": False}),
        ("tiny-levit", {"corners": False}),
        ("tiny-midas-small", {"corners": False, "head_corners": False}),
        ("tiny-midas-small", {"head_corners": True}),
        ("tiny-nextvit", {"head_corners": False}),
    ],
)
def test_another_rule_for_corners_shows(name, fault, loaded):
    state, model = loaded[name]
    x = image(*SIZES[name][0])
    assert distance(model(x), decode(state, model.encoder(x), **fault)) > 100 * LIMIT


def test_a_transposed_convolution_without_its_output_padding_is_of_another_size(loaded):
    state, model = loaded["tiny-levit"]
    x = image(96, 96)
    assert decode(state, model.encoder(x), output_padding=0).shape != model(x).shape == (2, 96, 96)


def test_a_missing_key_and_one_too_many_are_named(tmp_path):
    name = "tiny-levit"
    tensors = drawn(TINY_SHAPES[name]())
    gone = next(key for key in tensors if key.endswith("running_var") and ".head" not in key)
    tensors["scratch.surplus.weight"] = tensors.pop(gone)
    torch.save(tensors, tmp_path / "wrong.pt")
    with pytest.raises(CheckpointMismatchError) as caught:
        load_weights(tiny_spec(name), tmp_path / "wrong.pt")
    assert caught.value.keys.missing == (gone,)
    assert caught.value.keys.unexpected == ("scratch.surplus.weight",)


def test_the_file_of_another_network_names_the_recipe_that_it_fits(tmp_path):
    torch.save(drawn(TINY_SHAPES["tiny-levit"]()), tmp_path / "levit.pt")
    with pytest.raises(BadFileError, match=r"isl-org/MiDaS 3.1 LeViT keys"):
        load_weights(tiny_spec("tiny-nextvit"), tmp_path / "levit.pt")
