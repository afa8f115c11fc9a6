"""Token clustering against an oracle of loops; what is planted wrong is found; equal grids change nothing."""

import numpy as np
import pytest
import torch
from support.clustering import clustered, from_nearest, from_neighbours
from support.tiny import tiny_model, tiny_spec

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.model.rewrites.registry import approximated
from dpt_deploy.model.rewrites.tokens import (
    NearestCentre,
    ReduceTokens,
    WeightedCentres,
    check_clusters,
    cluster_tokens,
)

PREFIX, WIDTH, TEMPERATURE = 2, 6, 0.4
CASES = [((6, 7), (3, 3)), ((9, 5), (4, 5)), ((4, 12), (4, 3)), ((3, 10), (5, 6))]  # tokens and clusters


def tokens_of(size, batch=2, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch, PREFIX + size[0] * size[1], WIDTH))
    return torch.from_numpy(values.astype(np.float32))


def reducer(grid, neighbours=0, **changes):
    made = ReduceTokens(*grid, PREFIX, neighbours)
    made.temperature = TEMPERATURE
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def wanted_of(tokens, size, grid):
    grid = tuple(map(min, grid, size))
    return [clustered(each, *size, grid, prefix=PREFIX, temperature=TEMPERATURE, radius=2) for each in tokens]


def largest_error(module, restore, tokens, size, wanted):
    with torch.inference_mode():
        reduced, memory = module(tokens, *size)
        restored = restore(reduced, memory)
    if restored.shape != wanted.shape:
        return float("inf")
    return float(np.abs(restored.numpy() - wanted).max())


@pytest.mark.parametrize(("size", "grid"), CASES)
def test_centres_and_both_reconstructions_are_the_oracle_s(size, grid):
    tokens = tokens_of(size)
    oracle = wanted_of(tokens, size, grid)
    reduced, nearest = reducer(grid)(tokens, *size)
    np.testing.assert_allclose(reduced, np.stack([each[0] for each in oracle]), atol=1e-5)
    hard = np.stack([from_nearest(*each, PREFIX) for each in oracle])
    np.testing.assert_allclose(NearestCentre(PREFIX)(reduced, nearest), hard, atol=1e-5)
    softly = reducer(grid, neighbours=4, softness=0.7)
    soft = np.stack([from_neighbours(*each, PREFIX, 4, 0.7) for each in oracle])
    assert largest_error(softly, WeightedCentres(PREFIX), tokens, size, soft) < 1e-5


@pytest.mark.parametrize(
    "fault", [{"radius": 1}, {"radius": 3}, {"temperature": 1.0}, {"iterations": 4}, {"prefix": 0}, {"prefix": 1}]
)
def test_a_planted_fault_is_found(fault):
    size, grid = (9, 12), (7, 6)
    tokens = tokens_of(size)
    hard = np.stack([from_nearest(*each, PREFIX) for each in wanted_of(tokens, size, grid)])
    assert largest_error(reducer(grid), NearestCentre(PREFIX), tokens, size, hard) < 1e-5
    prefix = fault.get("prefix", PREFIX)
    size = size if prefix == PREFIX else (1, 108 + PREFIX - prefix)  # leading tokens are clustered with the others
    assert largest_error(reducer(grid, **fault), NearestCentre(prefix), tokens, size, hard) > 1e-2


def test_a_fault_of_the_reconstruction_is_found():
    size, grid = (6, 7), (3, 3)
    tokens = tokens_of(size)
    wanted = np.stack([from_neighbours(*each, PREFIX, 4, 0.7) for each in wanted_of(tokens, size, grid)])
    for fault in ({"softness": 0.0}, {"neighbours": 5}):
        module = reducer(grid, **{"neighbours": 4, "softness": 0.7, **fault})
        assert largest_error(module, WeightedCentres(PREFIX), tokens, size, wanted) > 1e-2


def test_each_image_has_clusters_of_its_own():
    size, grid = (6, 7), (3, 3)
    tokens = tokens_of(size, batch=3)
    reduced, nearest = reducer(grid)(tokens, *size)
    together = NearestCentre(PREFIX)(reduced, nearest)
    for index in range(3):
        alone = NearestCentre(PREFIX)(*reducer(grid)(tokens[index : index + 1], *size))
        torch.testing.assert_close(together[index : index + 1], alone)


def test_regions_of_one_colour_come_back_as_they_were():
    size = (8, 8)
    left = torch.arange(64).reshape(1, 64, 1) % 8 < 3
    tokens = torch.cat((torch.zeros(1, PREFIX, WIDTH), torch.where(left, 3.0, -5.0).expand(1, 64, WIDTH)), dim=1)
    restored = NearestCentre(PREFIX)(*reducer((4, 4), temperature=1.0)(tokens, *size))
    torch.testing.assert_close(restored, tokens)


def test_16_bits_are_computed_in_32():
    size, grid = (6, 7), (3, 3)
    tokens = (1000 * tokens_of(size)).half()
    reduced, nearest = reducer(grid, temperature=1e-6)(tokens, *size)
    assert reduced.dtype == torch.float16
    assert torch.isfinite(reduced).all()
    assert torch.equal(nearest, reducer(grid, temperature=1e-6)(tokens.float(), *size)[1])


def pixels(height, width):
    return torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width).sin()


@pytest.mark.parametrize(
    ("name", "layer", "size"), [("tiny-vit", 1, (96, 64)), ("tiny-dinov2", 0, (56, 70)), ("tiny-hybrid", 0, (96, 64))]
)
def test_as_many_clusters_as_tokens_change_nothing(name, layer, size):
    model = tiny_model(name)
    patch = model.spec.encoder.tokens.patch
    same = cluster_tokens(model, layer, size[0] // patch, size[1] // patch)
    same.encoder.fewer.reduce.radius = 0  # each token may join the cluster at its own place only
    with torch.inference_mode():
        torch.testing.assert_close(same(pixels(*size)), model(pixels(*size)), rtol=0, atol=1e-6)
        fewer = approximated(model, "tokens-hard", {"layer": layer, "height": 2, "width": 2})
        assert not torch.allclose(fewer(pixels(*size)), model(pixels(*size)), atol=1e-3)


def test_taps_up_to_the_layer_stay_as_they_are_and_the_model_does_too():
    model = tiny_model("tiny-vit")
    fewer = cluster_tokens(model, 1, 2, 3)
    with torch.inference_mode():
        before, after = model.encoder(pixels(96, 96)), fewer.encoder(pixels(96, 96))
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True, True, False, False]
    assert [each.shape for each in before] == [each.shape for each in after]
    assert model.encoder.fewer is None
    assert fewer.encoder.blocks[0].attn.qkv.weight is model.encoder.blocks[0].attn.qkv.weight


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("tiny-conv", (0, 2, 2), r"tiny-conv' \(cnn\) has no tokens"),
        ("tiny-beit", (0, 2, 2), r"\(beit\) has no tokens that could be clustered"),
        ("tiny-vit", (3, 2, 2), "behind block 3; expected 0 to 2"),
        ("tiny-vit", (-1, 2, 2), "behind block -1"),
        ("tiny-vit", (0.5, 2, 2), r"behind block 0\.5"),
        ("tiny-vit", (1, 0, 2), "0x2 clusters; expected whole numbers"),
        ("tiny-vit", (1, 2, 2.5), r"2x2\.5 clusters"),
        ("tiny-vit", (1, 7, 6), "7x6 clusters are more than the 6x6 tokens of an image of 96 pixels"),
        ("tiny-vit", (1, 3, 7), "3x7 clusters are more"),
    ],
)
def test_what_cannot_be_clustered_is_refused(name, numbers, message):
    layer, height, width = numbers
    with pytest.raises(UsageError, match=message):
        check_clusters(tiny_spec(name), Size(96, 96), layer=layer, height=height, width=width)
