"""The published weights against the numbers that Hugging Face publishes for them.

Needs the network and the COCO photograph 000000039769.jpg, which is not ours to ship:

    DPT_DEPLOY_COCO_39769=/path/000000039769.jpg pytest -m online
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.model.checkpoints.load import load_weights
from dpt_deploy.model.checkpoints.published import default_for, fetch, published

pytestmark = pytest.mark.online

VARIABLE = "DPT_DEPLOY_COCO_39769"

# Upper left corner of the output of Hugging Face's model on its own processor's input, float32. Intel/dpt-hybrid-midas
# is given there divided by 100.
GOLDEN = {
    ("large", "depth"): (384, 1.0, [[6.3199, 6.3629, 6.4148], [6.3850, 6.3615, 6.4166], [6.3519, 6.3176, 6.3575]]),
    ("hybrid", "depth"): (384, 0.01, [[5.6437, 5.6146, 5.6511], [5.4371, 5.5649, 5.5958], [5.5215, 5.5184, 5.5293]]),
    ("large", "segmentation"): (
        480,
        1.0,
        [[4.0480, 4.2420, 4.4360], [4.3124, 4.5693, 4.8261], [4.5768, 4.8965, 5.2163]],
    ),
}
TOLERANCE = 2e-3  # of a value: the processors' resize differs in the last bit of a pixel, the numbers have five digits


def huggingface_pixels(side):
    """The published processors squash to a square, bicubic with antialias, on 8-bit pixels."""
    path = os.environ.get(VARIABLE)
    if not path:
        pytest.skip(f"set {VARIABLE} to the path of the COCO photograph 000000039769.jpg")
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.open(path).convert("RGB").resize((side, side), image_module.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(((pixels - 0.5) / 0.5).transpose(2, 0, 1)[None].copy())


@pytest.mark.parametrize(("recipe", "task"), GOLDEN, ids="-".join)
def test_the_default_weights_give_the_published_numbers(recipe, task):
    side, factor, corner = GOLDEN[recipe, task]
    pixels = huggingface_pixels(side)
    spec = load_recipe(recipe, task=task).model
    # The published folders, from which the numbers are, keep the library's default epsilon.
    spec = replace(spec, encoder=replace(spec.encoder, norm_eps=1e-12))
    model, _ = load_weights(spec, fetch(default_for(recipe, task)))
    with torch.inference_mode():
        output = model(pixels)
    found = (output[0] if task == "depth" else output[0, 0])[:3, :3] * factor
    torch.testing.assert_close(found, torch.tensor(corner), rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("entry", [entry for entry in published() if entry.address], ids=lambda entry: entry.file)
def test_every_published_file_is_there_and_fits(entry):
    path = fetch(entry)
    assert isinstance(path, Path)
    _, report = load_weights(load_recipe(entry.recipe, task=entry.task).model, path)
    assert report.fits
