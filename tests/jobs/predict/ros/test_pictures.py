"""Pixels of camera messages: every encoding, rows with padding, both byte orders, and damaged messages."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.predict.ros.pictures import pixels_of

ROWS, COLUMNS = np.mgrid[:8, :12]
RGB = np.stack([20 * ROWS, 15 * COLUMNS, 5 * (ROWS + COLUMNS)], 2).astype(np.uint8)
GREY = RGB[..., 1]
FLAT = np.full((8, 12, 3), (200, 120, 40), np.uint8)


def message(samples, encoding, *, padding=0, big=0):
    rows = np.frombuffer(samples.tobytes(), np.uint8).reshape(8, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    facts = {"height": 8, "width": 12, "encoding": encoding, "is_bigendian": big, "step": rows.shape[1]}
    return SimpleNamespace(header=None, data=rows.reshape(-1), **facts)


def bayer(pattern):
    """A raw image of a flat colour: ``pattern`` has the channel of the four pixels of a cell."""
    tile = np.array([FLAT[0, 0]["rgb".index(letter)] for letter in pattern], np.uint8).reshape(2, 2)
    return np.tile(tile, (4, 6))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    ("encoding", "samples"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, GREY])),
        ("bgra8", np.dstack([RGB[..., ::-1], GREY])),
        ("rgb16", RGB.astype("<u2") * 256 + 77),
        ("bgr16", RGB[..., ::-1].astype("<u2") * 256 + 77),
    ],
)
def test_colours_are_read_as_they_were_written(encoding, samples, padding):
    np.testing.assert_array_equal(pixels_of(message(samples, encoding, padding=padding), "/camera"), RGB)


@pytest.mark.parametrize(
    ("encoding", "samples", "big"),
    [
        ("mono8", GREY, 0),
        ("8UC1", GREY, 0),
        ("mono16", GREY.astype("<u2") * 256 + 9, 0),
        ("mono16", (GREY.astype("u2") * 256 + 9).astype(">u2"), 1),
    ],
)
def test_grey_is_replicated(encoding, samples, big):
    found = pixels_of(message(samples, encoding, big=big), "/camera")
    np.testing.assert_array_equal(found, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_colour_filters_are_interpolated(pattern):
    np.testing.assert_array_equal(pixels_of(message(bayer(pattern), f"bayer_{pattern}8"), "/camera"), FLAT)


@pytest.mark.parametrize(("encoding", "order"), [("uyvy", [1, 0, 3, 2]), ("yuv422", [1, 0, 3, 2]), ("yuyv", range(4))])
def test_half_of_the_colours_is_interpolated(encoding, order):
    full, red, blue = cv2.cvtColor(FLAT, cv2.COLOR_RGB2YCrCb)[0, 0].astype(float)
    y, u, v = 16 + full * 219 / 255, 128 + (blue - 128) * 224 / 255, 128 + (red - 128) * 224 / 255
    cell = np.array([y, u, y, v], np.uint8)[list(order)]
    samples = np.tile(cell, (8, 6))
    assert np.abs(pixels_of(message(samples, encoding), "/camera").astype(int) - FLAT).max() <= 3


def test_a_compressed_image_is_decoded():
    data = cv2.imencode(".png", RGB[..., ::-1])[1].reshape(-1)
    np.testing.assert_array_equal(pixels_of(SimpleNamespace(header=None, format="png", data=data), "/camera"), RGB)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"encoding": "32FC1"}, "encoding '32FC1'; expected one of rgb8"),
        ({"data": RGB.reshape(-1)[:-1]}, "holds 287 bytes; 8 rows of 36 need 288"),
        ({"step": 35}, "rows of 35 bytes; expected at least 36"),
        ({"height": 0}, "12x.*pixels|0"),
        ({"width": 60000, "height": 60000}, "expected at most"),
    ],
    ids=["encoding", "short", "step", "empty", "huge"],
)
def test_a_damaged_message_is_refused(change, match):
    damaged = message(RGB, "rgb8")
    vars(damaged).update(change)
    with pytest.raises(BadFileError, match=match):
        pixels_of(damaged, "/camera")


def test_a_damaged_compressed_image_is_refused():
    with pytest.raises(BadFileError, match="not an image in a known format"):
        pixels_of(SimpleNamespace(header=None, format="jpeg", data=np.zeros(99, np.uint8)), "/camera")
