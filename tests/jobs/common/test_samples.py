"""Test images: fixed by the seed, and without a symmetry behind which a swapped axis could hide."""

from __future__ import annotations

import numpy as np
import pytest

from dpt_deploy.jobs.common.samples import normalised, structured_images

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 32, 32), (3, 64, 96), (2, 160, 32)])
def test_shape_and_range(batch, height, width):
    images = structured_images(batch, height, width)
    assert (images.shape, images.dtype) == ((batch, height, width, 3), np.uint8)
    assert np.ptp(images) > 100


def test_the_seed_decides():
    assert np.array_equal(structured_images(2, 32, 64), structured_images(2, 32, 64))
    assert not np.array_equal(structured_images(2, 32, 64, seed=1), structured_images(2, 32, 64))


def test_no_flip_or_transpose_leaves_an_image_as_it_was():
    (image,) = structured_images(1, 64, 64).astype(int)
    for other in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
        assert np.abs(image - other).mean() > 5


def test_images_of_a_batch_differ():
    first, second = structured_images(2, 64, 64).astype(int)
    assert np.abs(first - second).mean() > 5


def test_normalisation_is_the_formula():
    images = structured_images(1, 32, 64)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = normalised(images, mean, std)
    assert (result.shape, result.dtype) == ((1, 3, 32, 64), np.float32)
    assert result[0, 2, 5, 7] == pytest.approx((images[0, 5, 7, 2] / 255 - mean[2]) / std[2], rel=1e-6)
    assert result[0, 0, 5, 7] != result[0, 2, 5, 7]
