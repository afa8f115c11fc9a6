"""The published weights against the numbers that Hugging Face publishes for them.

Needs the network and the COCO photograph 000000039769.jpg, which is not ours to ship:

    DPT_DEPLOY_COCO_39769=/path/000000039769.jpg pytest -m online
"""

import importlib
import os
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.fetch import fetch
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.published import default_for, published

pytestmark = pytest.mark.online

VARIABLE = "DPT_DEPLOY_COCO_39769"


@pytest.fixture(scope="module")
def steps():
    """The steps of the kit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools/online_kit")
        yield importlib.import_module("checks")
        sys.modules.pop("checks", None)


@pytest.mark.parametrize(("recipe", "task"), [("large", "depth"), ("hybrid", "depth"), ("large", "segmentation")])
def test_the_default_weights_give_the_published_numbers(recipe, task, steps, tmp_path):
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"set {VARIABLE} to the path of the COCO photograph 000000039769.jpg")
    given = steps.Task(default_for(recipe, task), load_recipe(recipe, task=task), tmp_path, Path(path))
    assert steps.compared(given)["largest_relative_difference"] <= steps.TOLERANCE


@pytest.mark.parametrize("entry", [entry for entry in published() if entry.address], ids=lambda entry: entry.file)
def test_every_published_file_is_there_and_fits(entry):
    path = fetch(entry)
    assert isinstance(path, Path)
    _, report = load_weights(load_recipe(entry.recipe, task=entry.task).model, path)
    assert report.fits
