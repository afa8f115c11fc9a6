"""Losses and the differentiable image rule, compared with the evaluation and the predictor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny import tiny_model, tiny_recipe

from dpt_deploy.datasets.base import Sample
from dpt_deploy.imaging.rules import preprocess
from dpt_deploy.jobs.attack.objectives import WhiteBox, as_tensor, depth_loss, label_loss
from dpt_deploy.measure.metrics import fit_scale_shift

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (96, 128, 3)).astype(np.uint8)
DEPTH = RNG.uniform(1, 9, (96, 128)).astype(np.float32)
DEPTH[:8] = 0
SAMPLE = Sample("a", IMAGE, DEPTH > 0, depth=DEPTH)
OUTPUT = torch.from_numpy(RNG.uniform(0.1, 1, (1, 96, 128)).astype(np.float32))


@pytest.mark.parametrize("side", [64, 96, 160])
def test_the_input_is_that_of_the_predictor(side):
    rule = replace(tiny_recipe("tiny-vit").image, height=side, width=side)
    box = WhiteBox(tiny_model("tiny-vit"), rule, 32)
    found = box.prepare(as_tensor(IMAGE)).numpy()
    assert np.abs(found - preprocess(IMAGE, rule, 32)).max() < 2e-5


def test_the_gradient_reaches_every_pixel_and_leaves_the_weights_alone():
    model = tiny_model("tiny-vit")
    box = WhiteBox(model, tiny_recipe("tiny-vit").image, 32)
    image = as_tensor(IMAGE).requires_grad_(True)
    (slope,) = torch.autograd.grad(depth_loss(box(image), SAMPLE, metric=False, flip=False), image)
    assert (slope != 0).float().mean() > 0.9
    assert all(each.grad is None for each in model.parameters())


def by_hand(output, depth):
    known = depth > 0
    inverse = np.where(known, 1 / np.where(known, depth, 1), 0)
    scale, shift = fit_scale_shift(output, inverse, known)
    return np.abs(scale * output + shift - inverse)[known].mean() / inverse[known].mean()


def test_inverse_depth_is_aligned_as_in_the_evaluation():
    loss = float(depth_loss(OUTPUT, SAMPLE, metric=False, flip=False))
    assert loss == pytest.approx(by_hand(OUTPUT[0].numpy(), DEPTH), rel=1e-4)
    assert float(depth_loss(3 * OUTPUT + 2, SAMPLE, metric=False, flip=False)) == pytest.approx(loss, rel=1e-4)


def test_the_target_flip_is_the_mirrored_truth():
    loss = float(depth_loss(OUTPUT, SAMPLE, metric=False, flip=True))
    assert loss == pytest.approx(-by_hand(OUTPUT[0].numpy(), DEPTH[:, ::-1]), rel=1e-4)
    perfect = torch.from_numpy(np.where(DEPTH > 0, 1 / np.where(DEPTH > 0, DEPTH, 1), 0)[:, ::-1].copy())[None]
    assert float(depth_loss(perfect, SAMPLE, metric=False, flip=True)) == pytest.approx(0, abs=1e-5)


def test_metres_are_not_aligned():
    metres = torch.from_numpy(DEPTH)[None]
    assert float(depth_loss(metres, SAMPLE, metric=True, flip=False)) == 0
    assert float(depth_loss(1.5 * metres, SAMPLE, metric=True, flip=False)) == pytest.approx(0.5)


def test_labels_are_scored_by_cross_entropy_where_they_are_known():
    labels = RNG.integers(0, 4, (96, 128)).astype(np.uint8)  # 0 is unlabelled
    sample = Sample("a", IMAGE, labels > 0, labels=labels)
    logits = torch.from_numpy(RNG.standard_normal((1, 3, 96, 128)).astype(np.float32))
    rows = logits[0].permute(1, 2, 0).numpy()[labels > 0].astype(float)
    log = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    truth = -log[np.arange(len(rows)), labels[labels > 0] - 1].mean()
    assert float(label_loss(logits, sample, target=None)) == pytest.approx(truth, rel=1e-4)
    assert float(label_loss(logits, sample, target=2)) == pytest.approx(log[:, 1].mean(), rel=1e-4)
