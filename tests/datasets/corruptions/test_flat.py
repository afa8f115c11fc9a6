"""Corruptions of the photograph alone, compared with scikit-image, SciPy and Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from dpt_deploy.datasets.corruptions import filters, flat
from dpt_deploy.datasets.corruptions.clean import CleanImage

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (224, 224, 3)).astype(np.uint8)
CLEAN = CleanImage(IMAGE.astype(np.float32) / 255)
GREY = CleanImage(np.full((224, 224, 3), 0.5, np.float32))


def fresh():
    return np.random.default_rng(1)


def test_a_gaussian_is_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    expected = ndimage.gaussian_filter(CLEAN.pixels, (2.5, 2.5, 0), mode="nearest", radius=8)
    assert np.abs(filters.gaussian(CLEAN.pixels, 2.5) - expected).max() < 1e-5
    assert filters.gaussian(CLEAN.pixels, 0.05) is CLEAN.pixels


def test_a_wide_gaussian_is_close_to_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    smooth = filters.gaussian(CLEAN.pixels, 6)
    expected = ndimage.gaussian_filter(smooth, (50, 50, 0), mode="nearest")
    assert np.abs(filters.gaussian(smooth, 50) - expected).max() < 0.02


def test_brightness_is_that_of_hsv():
    colour = pytest.importorskip("skimage.color")
    hsv = colour.rgb2hsv(CLEAN.pixels)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.2, 0, 1)
    assert np.abs(flat.brightness(CLEAN, fresh(), 2) - colour.hsv2rgb(hsv)).max() < 1e-5


def test_jpeg_has_the_quality_of_pillow():
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "JPEG", quality=25)
    expected = np.asarray(Image.open(buffer), float)
    assert np.abs(255 * flat.jpeg(CLEAN, fresh(), 1) - expected).mean() < 2


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.08, 0.12, 0.18, 0.26, 0.38), 1)))
def test_noise_has_its_standard_deviation(severity, sigma):
    assert flat.gaussian_noise(GREY, fresh(), severity).std() == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize(("severity", "photons"), list(enumerate((60, 25, 12, 5, 3), 1)))
def test_photons_vary_as_poisson_says(severity, photons):
    assert flat.shot_noise(GREY, fresh(), severity).var() == pytest.approx(0.5 / photons, rel=0.03)


def test_impulses_replace_their_share_half_black_and_half_white():
    found = flat.impulse_noise(GREY, fresh(), 5)
    assert (found == 0).mean() == pytest.approx(0.135, rel=0.05)
    assert (found == 1).mean() == pytest.approx(0.135, rel=0.05)


def test_blurs_keep_a_uniform_image_and_its_mean():
    for blur in (flat.defocus_blur, flat.glass_blur, flat.motion_blur, flat.zoom_blur):
        assert np.abs(blur(GREY, fresh(), 5) - 0.5).max() < 1e-5
        assert blur(CLEAN, fresh(), 5).mean() == pytest.approx(CLEAN.pixels.mean(), abs=0.01)


def test_a_line_blurs_along_itself_only():
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[::4] = 1
    assert np.array_equal(filters.line(stripes, 9, 0.0), stripes)
    assert np.abs(filters.line(stripes, 9, np.pi / 2) - stripes).max() > 0.3


def test_contrast_keeps_the_mean_and_bits_leave_levels():
    assert flat.contrast(CLEAN, fresh(), 5).mean() == pytest.approx(CLEAN.pixels.mean(), abs=1e-4)
    assert flat.contrast(CLEAN, fresh(), 5).std() == pytest.approx(0.05 * CLEAN.pixels.std(), rel=0.02)
    assert len(np.unique(flat.colour_quant(CLEAN, fresh(), 3))) == 8


def test_lengths_grow_with_the_image():
    edge = np.zeros((448, 448, 3), np.float32)
    edge[:, 224:] = 1
    wide = flat.defocus_blur(CleanImage(edge), fresh(), 3)
    narrow = flat.defocus_blur(CleanImage(edge[::2, ::2]), fresh(), 3)
    assert np.abs(wide[::2, ::2] - narrow).mean() < 0.01
    widths = [((each > 0.01) & (each < 0.99)).any(axis=2).sum(axis=1).mean() for each in (wide, narrow)]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.1)


def test_the_control_ends_in_uniform_grey():
    assert np.unique(flat.blank(CLEAN, fresh(), 5)).tolist() == [0.5]
