"""PNG files: pixels as two independent decoders read them, and what a damaged byte does."""

import io

import numpy as np
import pytest

from dpt_deploy.imaging import png
from dpt_deploy.imaging.png import grey16_png, rgb_png

cv2 = pytest.importorskip("cv2")
Image = pytest.importorskip("PIL.Image")

# One pixel, one line, a stored block that ends with the image, many stored blocks and two chunks.
SHAPES = [(1, 1), (1, 70_000), (255, 128), (300, 500)]


def values(shape):
    return np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_decoders_read_the_values(shape):
    file = grey16_png(values(shape))
    assert np.array_equal(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED), values(shape))
    with Image.open(io.BytesIO(file)) as image:
        assert image.mode == "I;16"
        assert image.info == {}
        assert np.array_equal(np.asarray(image), values(shape))


def test_the_file_has_the_header_of_opencvs():
    wanted = cv2.imencode(".png", values((20, 30)), [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert grey16_png(values((20, 30)))[:33] == wanted[:33]  # signature and IHDR with its checksum


@pytest.mark.parametrize("at", [20, 60, -20])  # in the header, in the pixels, in the last checksums
def test_a_changed_byte_is_noticed(at):
    damaged = bytearray(grey16_png(values((20, 30))))
    damaged[at] ^= 1
    with pytest.raises((SyntaxError, OSError, ValueError)), Image.open(io.BytesIO(bytes(damaged))) as image:
        image.load()


def test_a_view_that_is_not_contiguous_is_written_as_it_looks():
    turned = values((20, 30)).T[::-1]
    assert grey16_png(turned) == grey16_png(turned.copy())


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 30_000, 3), (300, 500, 3)])
@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
def test_two_decoders_read_the_colours(shape, library, monkeypatch):
    monkeypatch.setattr(png, "deflate", pytest.importorskip(library))
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pixels[: shape[0] // 2] = 7  # flat rows
    file = rgb_png(pixels)
    assert np.array_equal(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1], pixels)
    with Image.open(io.BytesIO(file)) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), pixels)


def test_colours_take_no_more_room_than_opencvs():
    ramp = np.add.outer(np.arange(300), np.arange(500)) // 4
    colours = cv2.applyColorMap(ramp.astype(np.uint8), cv2.COLORMAP_INFERNO)
    assert len(rgb_png(colours)) < 1.2 * len(cv2.imencode(".png", colours)[1])


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib"])
def test_grey_files_are_the_same_bytes_with_each_library(library, monkeypatch):
    wanted = grey16_png(values((300, 500)))
    monkeypatch.setattr(png, "deflate", pytest.importorskip(library))
    assert grey16_png(values((300, 500))) == wanted
