"""A folder of photographs to calibrate with: odd files are used or left out with a message, links are not followed."""

import numpy as np
import pytest
from support.reporting import recording

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.export.calibration import from_folder

pytestmark = pytest.mark.needs("cv2", "PIL")

Image = pytest.importorskip("PIL.Image")
PngImagePlugin = pytest.importorskip("PIL.PngImagePlugin")

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_links_that_loop_are_ignored(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(PIXELS).save(photos / "a.png")
    (photos / "again").symlink_to(photos)
    (photos / "loop.png").symlink_to("loop.png")
    with recording() as messages:
        found = from_folder(photos)
    assert found.count == 1
    np.testing.assert_array_equal(list(found.images()), [PIXELS])
    assert not [line for line in messages.lines if line.endswith("left out")]


def test_a_png_with_much_compressed_text_is_used(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 2_000_000, zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    found = from_folder(tmp_path)
    np.testing.assert_array_equal(list(found.images()), [PIXELS])


def test_a_postscript_file_named_png_is_left_out_with_a_message(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "b.png", "EPS")
    with pytest.raises(BadFileError, match=r"holds no image to calibrate with \(1 files look like one\)"):
        from_folder(tmp_path)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with recording() as messages:
        found = from_folder(tmp_path)
    assert found.count == 1
    assert [line for line in messages.lines if "b.png" in line and line.endswith("left out")]
