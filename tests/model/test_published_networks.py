"""The zoo against the published numbers, and every row of the paper's Tables 6, 7 and 8."""

from dataclasses import replace

import pytest
import torch
from support.paths import ROOT
from support.tiny import tiny_spec

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.model.build import build, count_reference_operations
from dpt_deploy.model.heads import SegmentationHead
from dpt_deploy.model.random_weights import random_model

RECIPES = ROOT / "export" / "recipes"
BASE, LARGE, HYBRID = 109_696_385, 341_848_257, 121_196_289  # needed at inference, measured on the original

# Table row -> (taps, counted from 1 as the paper does; read-out; parameters, by hand from those of the original)
READOUTS = 4 * (2 * 768 * 768 + 768)
STAGE_TAPS = 2 * (2 * 768 * 768 + 768)
ROWS = {
    "table6-base-3-6-9-12": ((3, 6, 9, 12), "ignore", BASE - READOUTS),
    "table6-base-6-8-10-12": ((6, 8, 10, 12), "ignore", BASE - READOUTS),
    "table6-base-9-10-11-12": ((9, 10, 11, 12), "ignore", BASE - READOUTS),
    "table6-hybrid-3-6-9-12": ((3, 6, 9, 12), "ignore", None),
    "table6-hybrid-r0-r1-9-12": (("stage0", "stage1", 9, 12), "ignore", HYBRID - STAGE_TAPS),
    "table7-ignore": ((3, 6, 9, 12), "ignore", BASE - READOUTS),
    "table7-add": ((3, 6, 9, 12), "add", BASE - READOUTS),
    "table7-project": ((3, 6, 9, 12), "project", BASE),
    "table8-resnet50": (("stage0", "stage1", "stage2", "stage3"), None, None),
    "table8-resnext101": (("stage0", "stage1", "stage2", "stage3"), None, None),
    "table8-deit": ((3, 6, 9, 12), "project", BASE),
    "table8-deit-distilled": ((3, 6, 9, 12), "project", BASE + 2 * 768),
    "table8-vit-base": ((3, 6, 9, 12), "project", BASE),
    "table8-vit-large": ((6, 12, 18, 24), "project", LARGE),
    "table8-vit-hybrid": (("stage0", "stage1", 9, 12), "project", HYBRID),
}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def zoo(name, **options):
    return build(load_recipe(name, **options).model)


@pytest.mark.parametrize(("name", "count"), [("base", BASE), ("hybrid", HYBRID), ("large", LARGE)])
def test_parameters_needed_at_inference_equal_the_original_s(name, count):
    assert parameters(zoo(name)) == count


@pytest.mark.parametrize(("name", "published", "width"), [("hybrid", 124_076_884, 768), ("large", 344_985_364, 1024)])
def test_segmentation_parameters_equal_the_original_s_less_what_never_runs(name, published, width):
    classifier, norm = 1000 * width + 1000, 2 * width
    unit = 2 * (9 * 256 * 256 + 2 * 256)
    auxiliary = 9 * 256 * 256 + 2 * 256 + 150 * 256 + 150
    assert parameters(zoo(name, task="segmentation")) == published - classifier - norm - unit - auxiliary


@pytest.mark.parametrize(("name", "millions"), [("midas-v21", 105), ("base", 112), ("hybrid", 123), ("large", 343)])
def test_parameters_are_those_of_table_9(name, millions):
    assert abs(parameters(zoo(name)) / 1e6 - millions) < 2.5  # the paper counts the classifier and what never runs


@pytest.mark.parametrize(("name", "giga"), [("base", 223.6), ("hybrid", 255.2), ("large", 516.4)])
def test_operations_at_384_equal_the_measured_ones(name, giga):
    found = count_reference_operations(load_recipe(name).model, Size(384, 384))
    assert round(found / 1e9, 1) == giga


def test_another_network_has_other_counts():
    spec = load_recipe("base").model
    wider = replace(spec, fusion_channels=spec.fusion_channels + 1)
    assert parameters(build(wider)) != BASE
    assert count_reference_operations(wider, Size(384, 384)) != count_reference_operations(spec, Size(384, 384))


def test_every_row_of_the_tables_has_a_recipe_and_no_recipe_is_of_no_row():
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_tables_builds_and_runs_at_full_size(row):
    taps, readout, count = ROWS[row]
    recipe = load_recipe(str(RECIPES / f"{row}.toml"))
    assert recipe.model.taps == tuple(tap - 1 if isinstance(tap, int) else tap for tap in taps)
    assert readout in (None, recipe.model.readout)
    assert f"Table {row[5]}" in recipe.description
    model = build(recipe.model)
    assert count in (None, parameters(model))
    assert model(torch.empty((2, 3, 384, 512), device="meta")).shape == (2, 384, 512)


def test_rows_that_differ_in_their_taps_alone_are_different_networks():
    specs = [load_recipe(str(RECIPES / f"{row}.toml")).model for row in ROWS if row.startswith("table6-base")]
    assert len({spec.taps for spec in specs}) == len({replace(spec, name="") for spec in specs}) == 3


@pytest.mark.parametrize("classes", [150, 60, 7])
@pytest.mark.parametrize("name", ["base", "hybrid", "large"])
def test_segmentation_models_have_as_many_classes_as_asked_for(name, classes):
    model = zoo(name, task="segmentation", classes=classes)
    assert isinstance(model.head, SegmentationHead)
    assert model(torch.empty((1, 3, 64, 96), device="meta")).shape == (1, classes, 64, 96)


@pytest.mark.parametrize("classes", [150, 60, 7])
def test_segmentation_runs_with_any_number_of_classes(classes):
    model = random_model(tiny_spec("tiny-vit").with_classes(classes))
    logits = model(torch.randn((2, 3, 64, 32), generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, classes, 64, 32)
    assert logits.argmax(1).unique().numel() > 2
