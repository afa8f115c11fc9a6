"""Sizes, batches and specifications."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import pytest
from support.faults.handmade import MODEL
from support.specs import SMALL_VIT

from dpt_deploy.core.decode import decode
from dpt_deploy.core.encoders import ViTSpec
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.recipe import load_recipe, zoo_names
from dpt_deploy.core.size import Size, parse_batches, parse_size, parse_sizes
from dpt_deploy.core.spec import MetricTail, ModelSpec, SkyFill

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "expected"),
    [("384", Size(384, 384)), ("384x672", Size(384, 672)), (" 32 ", Size(32, 32)), ("32x64", Size(32, 64))],
)
def test_height_comes_first(text, expected):
    assert parse_size(text) == expected
    assert parse_size(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("100", "96 or 128"),
        ("100x384", "96x384 or 128x384"),
        ("384x100", "384x96 or 384x128"),
        ("1", "32"),
        ("0", "32"),
        ("31x33", "32 or 32x64"),
    ],
)
def test_an_illegal_size_names_the_nearest_legal_ones(text, nearest):
    with pytest.raises(UsageError, match="not a multiple of 32") as caught:
        parse_size(text)
    assert caught.value.hint.endswith(nearest)


@pytest.mark.parametrize("text", ["", "abc", "384x", "x384", "-32", "32.0", "32x32x32", "32 32"])
def test_garbage_is_not_a_size(text):
    with pytest.raises(UsageError, match="not understood"):
        parse_size(text)


def test_lists_drop_duplicates_and_keep_order():
    assert parse_sizes("384,256x640,384") == (Size(384, 384), Size(256, 640))
    assert parse_batches("3,1,3") == (3, 1)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "1,zwei"])
def test_a_batch_is_a_positive_integer(text):
    with pytest.raises(UsageError, match="not a positive integer"):
        parse_batches(text)


@dataclass(frozen=True, kw_only=True)
class OneSize(ViTSpec):
    """An encoder whose weights belong to one grid."""

    @property
    def fixed_size(self):
        return (64, 96)


ONE_SIZE = replace(SMALL_VIT, encoder=OneSize(width=32, depth=4, heads=2, grid=4))


def test_a_network_of_one_size_takes_no_other():
    ONE_SIZE.check_size(Size(64, 96))
    assert not list(ONE_SIZE.problems())
    with pytest.raises(UsageError, match="takes images of 64x96 pixels only; 96x64 was asked for"):
        ONE_SIZE.check_size(Size(96, 64))
    SMALL_VIT.check_size(Size(96, 64))
    with pytest.raises(UsageError, match="not a multiple of 32"):
        SMALL_VIT.check_size(Size(96, 65))


def test_the_one_size_of_a_network_is_a_multiple_of_its_stride():
    (problem,) = [text for text, _hint in replace(ONE_SIZE, stride=64).problems()]
    assert "64x96 pixels and a stride of 64" in problem


@pytest.mark.parametrize("name", zoo_names())
def test_a_specification_survives_json(name):
    spec = load_recipe(name).model
    again = decode(ModelSpec, json.loads(json.dumps(asdict(spec))))
    assert again == spec
    assert again != spec.with_classes(7)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"quantity": "metres"}, "metres with a png_scale of 0"),
        ({"quantity": "canonical depth", "png_scale": 256.0}, "canonical depth with a canonical_focal of 0"),
        ({"quantity": "relative depth", "png_scale": 256.0}, "relative depth with a png_scale of 256"),
        ({"canonical_focal": 300.0}, "inverse depth with a canonical_focal of 300"),
        ({"activation": "sigmoid"}, "activation 'sigmoid' with a max_depth of 0"),
        ({"activation": "exp", "max_depth": 80.0}, "activation 'exp' with a max_depth of 80"),
        ({"metric": MetricTail(1.0, 0.0, 256.0), "quantity": "inverse depth"}, "[model.metric] with the quantity"),
        ({"task": "segmentation", "num_classes": 3, "quantity": "metres"}, "with keys of the depth head"),
        ({"joint": ("sky",), "quantity": "relative depth"}, "with a sky of None"),
        ({"sky": SkyFill(0.3, 0.99, 10), "quantity": "relative depth"}, "joint tasks () with a sky of SkyFill"),
        ({"sky": SkyFill(0.3, 0.99, 10), "joint": ("sky",)}, "a sky with inverse depth"),
    ],
)
def test_contradictions_of_the_quantity_are_problems(changes, problem):
    assert not list(MODEL.problems())
    assert any(problem in found for found, _ in replace(MODEL, **changes).problems())


def test_networks_that_state_no_quantity_have_that_of_the_paper():
    metric = replace(MODEL, metric=MetricTail(1.0, 0.0, 256.0))
    assert (MODEL.output_quantity, metric.output_quantity) == ("inverse depth", "metres")
    assert (MODEL.steps_per_metre, metric.steps_per_metre) == (0.0, 256.0)
    bounded = replace(MODEL, quantity="metres", activation="sigmoid", max_depth=20.0, png_scale=1000.0)
    assert bounded.steps_per_metre == 1000.0
    assert not list(bounded.problems())
    segmentation = bounded.with_classes(3)
    assert segmentation.output_quantity is None
    assert not list(segmentation.problems())
