"""Training batches: a function of seed and step, image and truth in the same place, pixels as the network gets them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dpt_deploy.jobs.train.batches import SceneBatches
from dpt_deploy.jobs.train.config import Augmentation

cv2 = pytest.importorskip("cv2")

WHOLE, SIDE = 128, 48
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
EXACT = Augmentation(smallest_crop=1.0, colour=0.0)
CROPPED = Augmentation(smallest_crop=0.5, colour=0.0)


def scenes(count=5, axis=1, dtype=np.float32):
    """Scenes whose colours tell where they are: red is the column, green the row, blue 10 times the scene's number.

    The target is the column (``axis`` 1) or the row.
    """
    row, column = np.mgrid[:WHOLE, :WHOLE]
    images = [np.stack([column, row, np.full_like(row, 10 * index)], axis=-1) for index in range(count)]
    targets = [(row, column)[axis]] * count
    return SimpleNamespace(images=np.array(images, np.uint8), targets=np.array(targets, dtype), count=count, side=WHOLE)


def batches(source, *, batch=4, seed=1, augmentation=CROPPED, normal=RAW):
    return SceneBatches(source, batch, SIDE, seed, *normal, augmentation)


def pixels(images):
    return 255 * images.numpy()


# --- which ------------------------------------------------------------------------------------------------------------


def test_a_step_is_the_same_batch_in_every_run():
    first, again, other = (batches(scenes(), seed=seed)(7) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], batches(scenes())(8)[0])


def test_a_batch_does_not_depend_on_the_ones_before():
    walked = batches(scenes())
    for step in range(4):
        last = walked(step)
    assert torch.equal(last[0], batches(scenes())(3)[0])


def test_the_size_may_change_with_the_step():
    growing = SceneBatches(scenes(), 2, lambda step: 32 if step < 3 else SIDE, 1, *RAW, CROPPED)
    assert [growing(step)[0].shape[-1] for step in (0, 2, 3, 9)] == [32, 32, SIDE, SIDE]
    assert all(torch.equal(a, b) for a, b in zip(growing(4), batches(scenes(), batch=2)(4), strict=True))


@pytest.mark.parametrize("batch", [1, 3, 5, 12])
def test_every_scene_comes_once_an_epoch_in_another_order(batch):
    source = batches(scenes(), batch=batch)
    steps = range(-(-30 // batch))
    order = [round(float(blue) / 10) for step in steps for blue in pixels(source(step)[0])[:, 2].mean(axis=(1, 2))]
    epochs = [tuple(order[start : start + 5]) for start in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(epochs)) > 3


# --- where ------------------------------------------------------------------------------------------------------------


def misplaced(images, targets, axis):
    """The farthest in pixels of the scene that a target lies from what the image shows there, but for the border."""
    shown = pixels(images)[:, 0 if axis == 1 else 1]
    return np.abs(shown - targets.numpy())[:, 2:-2, 2:-2].max()


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("augmentation", [EXACT, CROPPED], ids=["whole", "cropped"])
def test_image_and_truth_stay_in_the_same_place(axis, augmentation):
    images, targets = batches(scenes(axis=axis), batch=16, augmentation=augmentation)(0)
    assert misplaced(images, targets, axis) < 1.5  # the nearest pixel, and rounding to 8 bits
    assert misplaced(images, targets.roll(1, dims=1 + axis), axis) > 1.5
    assert misplaced(images, targets.flip(1 + axis), axis) > 40


def test_half_of_the_images_are_mirrored_left_to_right_and_none_upside_down():
    source = batches(scenes(), batch=40)
    images = np.concatenate([pixels(source(step)[0]) for step in range(5)])
    mirrored = images[:, 0, 20, 5] > images[:, 0, 20, -5]
    assert 0.35 < mirrored.mean() < 0.65
    assert (images[:, 1, 5, 20] < images[:, 1, -5, 20]).all()


def test_crops_are_of_any_allowed_size_and_anywhere():
    source = batches(scenes(), batch=100)
    red = pixels(source(0)[0])[:, 0]
    wide = (red.max(axis=(1, 2)) - red.min(axis=(1, 2)) + 1) / WHOLE
    assert 0.48 < wide.min() < 0.6
    assert 0.9 < wide.max() <= 1.01
    left = red.min(axis=(1, 2))
    assert left.min() < 3
    assert left.max() > 40
    whole = pixels(batches(scenes(), batch=20, augmentation=EXACT)(0)[0])[:, 0]
    assert (whole.max(axis=(1, 2)) - whole.min(axis=(1, 2)) > 0.97 * WHOLE).all()


def test_the_smallest_crop_is_a_pixel():
    images, targets = batches(scenes(), augmentation=Augmentation(smallest_crop=1e-9, colour=0.0))(0)
    assert torch.isfinite(images).all()
    assert targets.shape == (4, SIDE, SIDE)


# --- what -------------------------------------------------------------------------------------------------------------


def photograph():
    return np.random.default_rng(0).integers(0, 256, (1, WHOLE, WHOLE, 3)).astype(np.uint8)


def test_the_kernel_is_that_of_inference():
    source = scenes(count=1)
    source.images = photograph()
    found, _ = batches(source, batch=1, augmentation=EXACT)(0)
    floats = source.images[0].astype(np.float32) / 255
    expected, blurred = (
        cv2.resize(floats, (SIDE, SIDE), interpolation=kind).clip(0, 1).transpose(2, 0, 1)
        for kind in (cv2.INTER_CUBIC, cv2.INTER_LINEAR)
    )
    apart = [
        min(np.abs(found[0].numpy() - image).max(), np.abs(found[0].numpy() - image[:, :, ::-1]).max())
        for image in (expected, blurred)
    ]
    assert apart[0] < 1e-4
    assert apart[1] > 0.1


def test_images_are_normalised_as_the_network_wants_them():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    plain, _ = batches(scenes())(0)
    found, _ = batches(scenes(), normal=(mean, std))(0)
    column = torch.tensor(mean).reshape(1, 3, 1, 1), torch.tensor(std).reshape(1, 3, 1, 1)
    assert torch.allclose(found * column[1] + column[0], plain, atol=1e-6)
    assert found.dtype == torch.float32
    assert found.shape == (4, 3, SIDE, SIDE)


def test_depth_is_never_blended_and_is_float32():
    _, targets = batches(scenes(dtype=np.float16))(0)
    assert targets.dtype == torch.float32
    assert torch.equal(targets, targets.round())


def test_labels_are_never_blended_and_are_int64():
    source = scenes(dtype=np.uint8)
    source.targets[:] = np.where(np.arange(WHOLE) % 2, 0, 9)  # a blend of the two would be a class of its own
    _, targets = batches(source)(0)
    assert targets.dtype == torch.int64
    assert set(targets.unique().tolist()) == {0, 9}


def test_colours_change_with_strength_and_truth_does_not():
    source = scenes(count=1)
    source.images = photograph()
    plain, coloured = (
        batches(source, batch=8, augmentation=Augmentation(1.0, strength))(0) for strength in (0.0, 0.25)
    )
    assert coloured[0].min() >= 0
    assert coloured[0].max() <= 1
    assert plain[0].flatten(1).mean(dim=1).std() < 0.01
    assert coloured[0].flatten(1).mean(dim=1).std() > 0.03
    assert set(coloured[1].unique().tolist()) == set(plain[1].unique().tolist())


@pytest.mark.parametrize(("batch", "side"), [(0, 48), (-1, 48), (4, 0)])
def test_a_batch_of_nothing_is_refused(batch, side):
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        SceneBatches(scenes(), batch, side, 1, *RAW, EXACT)
