"""JPEG and PNG in C++: the pixels that Python reads, bit for bit; damaged files are refused by both."""

import ctypes
import io
import zlib

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra images is not installed")

import cv2
from PIL import Image as Pillow
from support.native import native_build

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.imaging.files import read_image
from dpt_deploy.runtime.native.library import Image, Library

pytestmark = pytest.mark.needs("compiler")

SIDES = (37, 53)  # odd: chroma is subsampled over the border


@pytest.fixture(scope="module")
def library():
    folder = native_build()
    cache = (folder / "CMakeCache.txt").read_text()
    for name in ("JPEG_INCLUDE_DIR", "PNG_PNG_INCLUDE_DIR"):
        if f"{name}:PATH=/" not in cache:
            pytest.skip(f"the C++ runtime was built without {name[:4].strip('_')} (libjpeg-dev, libpng-dev)")
    found = Library(str(folder / "libdpt.so"))
    found._library.dpt_read_image.argtypes = [ctypes.c_char_p, ctypes.POINTER(Image)]
    return found


def read_native(library, path):
    image = Image(struct_size=ctypes.sizeof(Image))
    library.call("dpt_read_image", str(path).encode(), ctypes.byref(image))
    try:
        return np.ctypeslib.as_array(
            ctypes.cast(image.data, ctypes.POINTER(ctypes.c_uint8)), (image.height, image.width, 3)
        ).copy()
    finally:
        library._library.dpt_free_image(ctypes.byref(image))


def picture(mode="RGB"):
    """A smooth picture with noise, so that neither filters nor chroma are trivial."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: SIDES[0], : SIDES[1]]
    smooth = np.stack([3 * x, 5 * y, 2 * (x + y), 255 - 4 * x], -1) + rng.integers(0, 20, (*SIDES, 4))
    return Pillow.fromarray(np.clip(smooth, 0, 255).astype(np.uint8)[..., : 4 if mode == "RGBA" else 3]).convert(mode)


def exif(orientation):
    data = Pillow.Exif()
    data[0x0112] = orientation
    return data


def encoded(kind, mode="RGB", **options):
    buffer = io.BytesIO()
    picture(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bits():
    values = np.random.default_rng(4).integers(0, 65536, (*SIDES, 3), dtype=np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()


FILES = {
    "4:2:0": encoded("JPEG", quality=80, subsampling=2),
    "4:2:2": encoded("JPEG", quality=90, subsampling=1),
    "4:4:4": encoded("JPEG", quality=95, subsampling=0),
    "progressive": encoded("JPEG", progressive=True),
    "grey": encoded("JPEG", "L"),
    **{f"turned {value}": encoded("JPEG", exif=exif(value)) for value in range(1, 10)},
    "png": encoded("PNG"),
    "png, grey": encoded("PNG", "L"),
    "png, palette": encoded("PNG", "P"),
    "png, one bit": encoded("PNG", "1"),
    "png, alpha": encoded("PNG", "RGBA"),
    "png, transparent colour": encoded("PNG", "P", transparency=3),
    "png, 16 bits": sixteen_bits(),
    "png, turned": encoded("PNG", exif=exif(6)),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_python(name, library, tmp_path):
    path = tmp_path / "photograph"
    path.write_bytes(FILES[name])
    np.testing.assert_array_equal(read_native(library, path), read_image(path))


def test_the_turned_ones_differ(tmp_path, library):
    """Otherwise nothing above would show that orientation is read."""
    shapes = set()
    for value in range(1, 9):
        path = tmp_path / f"{value}"
        path.write_bytes(FILES[f"turned {value}"])
        pixels = read_native(library, path)
        shapes.add((pixels.shape, pixels.tobytes()))
    assert len(shapes) == 8


@pytest.mark.parametrize("name", ["4:2:0", "progressive", "png", "png, 16 bits"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_cut_file_is_refused_by_both(name, share, library, tmp_path):
    path = tmp_path / "cut"
    path.write_bytes(FILES[name][: int(share * len(FILES[name]))])
    for read in (read_image, lambda file: read_native(library, file)):
        with pytest.raises(BadFileError):
            read(path)


def test_a_changed_byte_of_a_png_is_refused_by_both(library, tmp_path):
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 1
    path = tmp_path / "changed.png"
    path.write_bytes(data)
    for read in (read_image, lambda file: read_native(library, file)):
        with pytest.raises(BadFileError):
            read(path)


def test_what_is_too_large_is_refused_before_memory_is_taken(library, tmp_path):
    header = bytearray(FILES["png"])
    header[16:24] = (30_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    path = tmp_path / "huge.png"
    path.write_bytes(header)
    with pytest.raises(BadFileError, match="30000x30000"):
        read_native(library, path)


def test_cmyk_is_refused_with_the_reason(library, tmp_path):
    path = tmp_path / "print.jpg"
    path.write_bytes(encoded("JPEG", "CMYK"))
    with pytest.raises(BadFileError, match="CMYK"):
        read_native(library, path)
