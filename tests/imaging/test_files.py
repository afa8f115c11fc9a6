"""Reading and writing image, map and video files, with the files people really have."""

from __future__ import annotations

import io
import resource
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.imaging.palette import palette

cv2 = pytest.importorskip("cv2")
Image = pytest.importorskip("PIL.Image")
PngImagePlugin = pytest.importorskip("PIL.PngImagePlugin")
data = pytest.importorskip("skimage.data")

from dpt_deploy.imaging import files as images  # noqa: E402  (it needs the modules above)
from dpt_deploy.imaging.video import VideoWriter, iter_video, writable_rate  # noqa: E402

LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "WEBP": {"lossless": True}}


@pytest.fixture(scope="module")
def photograph():
    return np.ascontiguousarray(data.chelsea()[:120, :161])


def _encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", LOSSLESS)
def test_read_image_lossless(tmp_path, photograph, kind):
    path = _write(tmp_path, "a", _encoded(photograph, kind, **LOSSLESS[kind]))
    assert np.array_equal(images.read_image(path), photograph)
    assert not np.array_equal(images.read_image(path), photograph[..., ::-1])


def test_read_image_is_imread(tmp_path, photograph):
    path = _write(tmp_path, "a.jpg", _encoded(photograph, "JPEG"))
    assert np.array_equal(images.read_image(path), cv2.imread(str(path))[..., ::-1])


def test_read_image_of_one_pixel(tmp_path):
    path = _write(tmp_path, "a.png", _encoded(np.full((1, 1, 3), 7, np.uint8), "PNG"))
    assert images.read_image(path).tolist() == [[[7, 7, 7]]]


def test_read_image_replicates_grey(tmp_path, photograph):
    path = _write(tmp_path, "a.png", _encoded(photograph[..., 0], "PNG"))
    assert np.array_equal(images.read_image(path), photograph[..., :1].repeat(3, -1))


def test_read_image_drops_alpha(tmp_path, photograph):
    path = _write(tmp_path, "a.png", _encoded(np.dstack([photograph, photograph[..., 0] // 2]), "PNG"))
    assert np.array_equal(images.read_image(path), photograph)


def test_read_image_makes_8_bits_of_16(tmp_path, photograph):
    deep = photograph.astype(np.uint16) * 257
    path = _write(tmp_path, "a.png", cv2.imencode(".png", deep[..., ::-1])[1].tobytes())
    assert np.array_equal(images.read_image(path), photograph)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_read_image_applies_exif_orientation(tmp_path, photograph, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = images.read_image(_write(tmp_path, "a.jpg", _encoded(photograph, "JPEG")))
    turned = images.read_image(_write(tmp_path, "b.jpg", _encoded(photograph, "JPEG", exif=exif)))
    assert np.array_equal(turned, np.rot90(plain, turns))


def test_read_image_converts_cmyk(tmp_path, photograph):
    buffer = io.BytesIO()
    Image.fromarray(photograph).convert("CMYK").save(buffer, "JPEG", quality=95)
    pixels = images.read_image(_write(tmp_path, "a.jpg", buffer.getvalue()))
    assert pixels.shape == photograph.shape
    assert np.abs(pixels.astype(int) - photograph).mean() < 5


@pytest.mark.parametrize("name", ["ümläut.png", "a b.png", "%02d.png"])
def test_read_image_of_any_name(tmp_path, photograph, name):
    assert np.array_equal(images.read_image(_write(tmp_path, name, _encoded(photograph, "PNG"))), photograph)


def _damaged(kind, how, photograph):
    content = _encoded(photograph, kind)
    middle = len(content) // 2
    if how == "cut short":
        return content[: -len(content) // 10]
    return content[:middle] + {"cut in half": b"", "overwritten": b"\xff\xd8abc\0\0\0" + content[middle + 8 :]}[how]


@pytest.mark.parametrize("how", ["cut in half", "cut short", "overwritten"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_read_image_refuses_damage(tmp_path, photograph, kind, how):
    path = _write(tmp_path, f"a.{kind.lower()}", _damaged(kind, how, photograph))
    with pytest.raises(BadFileError, match="cannot be decoded") as caught:
        images.read_image(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_threads_that_decode_leave_the_settings_of_the_process(tmp_path, photograph):
    """The settings that keep decoders quiet are of the whole process: the last thread restores them."""
    path = tmp_path / "a.png"
    Image.fromarray(photograph).save(path)
    before = (cv2.utils.logging.getLogLevel(), list(warnings.filters))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(images.read_image, [path] * 24))
    assert all(np.array_equal(each, photograph) for each in found)
    assert (cv2.utils.logging.getLogLevel(), list(warnings.filters)) == before


def test_opencv_alone_would_accept_damage(photograph):
    """Why Pillow reads the stream as well."""
    content = np.frombuffer(_damaged("JPEG", "overwritten", photograph), np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.png", b"", "is empty"), ("a.png", b"just text", "not an image"), ("a.jpg", b"\xff\xd8\xff", "a.jpg")],
)
def test_read_image_refuses_what_is_none(tmp_path, name, content, message):
    with pytest.raises(BadFileError, match=message):
        images.read_image(_write(tmp_path, name, content))


def test_read_image_refuses_missing_and_folder(tmp_path):
    with pytest.raises(BadFileError, match="No such file"):
        images.read_image(tmp_path / "a.png")
    with pytest.raises(BadFileError, match="not a regular file"):
        images.read_image(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_size_of_an_image_is_checked_before_it_is_decoded(tmp_path, monkeypatch, photograph, kind):
    path = _write(tmp_path, "a.png", _encoded(photograph, kind))
    monkeypatch.setenv("DPT_DEPLOY_MAX_IMAGE", str(photograph.nbytes - 1))
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(BadFileError, match="expected at most") as caught:
        images.read_image(path)
    assert "set DPT_DEPLOY_MAX_IMAGE" in caught.value.hint


def test_a_panorama_is_read_once_the_limit_is_raised(tmp_path, monkeypatch, photograph):
    """Pillow's own limit does not stand in the way."""
    path = _write(tmp_path, "a.bmp", _encoded(photograph, "BMP"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(images.read_image(path), photograph)


def _text_png(photograph):
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 1_400_000, zip=True)
    info.add_itxt("b", "y" * 1_400_000, zip=True)
    return _encoded(photograph, "PNG", pnginfo=info)


def test_a_png_with_long_texts_is_the_same_image(tmp_path, photograph):
    content = _text_png(photograph)
    with pytest.raises(ValueError, match="too large"), Image.open(io.BytesIO(content)) as image:
        image.load()
    assert np.array_equal(images.read_image(_write(tmp_path, "a.png", content)), photograph)


def test_a_png_without_its_end_is_cut_short(tmp_path, photograph):
    with pytest.raises(BadFileError, match="cut short"):
        images.read_image(_write(tmp_path, "a.png", _encoded(photograph, "PNG")[:-12]))


def test_a_float_tiff_is_refused_for_its_samples(tmp_path, photograph, capfd):
    with pytest.raises(BadFileError, match="expected integers of 8 or 16 bits"):
        images.read_image(_write(tmp_path, "a.tif", _encoded(photograph[..., 0].astype(np.float32), "TIFF")))
    assert capfd.readouterr().err == ""  # OpenCV would write a line of its own


def _tiff_of_two_samples(width, height):
    """A grey image with transparency, which Pillow does not know and OpenCV reads."""
    short, entries = 3, [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 146), (277, 2), (278, height)]
    directory = b"".join(struct.pack("<HHIHH", tag, short, 1, value, 0) for tag, value in entries)
    count = struct.pack("<HHII", 279, 4, 1, 2 * width * height) + struct.pack("<HHIHH", 338, short, 1, 2, 0)
    head = b"II*\0" + struct.pack("<IH", 8, 10) + directory + count + struct.pack("<I", 0)
    return head.ljust(146, b"\0") + bytes(range(2 * width * height))


def test_a_tiff_that_only_opencv_reads_has_the_limit_of_the_others(tmp_path, monkeypatch):
    path = _write(tmp_path, "a.tif", _tiff_of_two_samples(5, 4))
    assert images.read_image(path).shape == (4, 5, 3)
    monkeypatch.setenv("DPT_DEPLOY_MAX_IMAGE", "59")
    with pytest.raises(BadFileError, match="has 60 bytes of pixels"):
        images.read_image(path)
    (tmp_path / "b.tif").write_bytes(path.read_bytes()[:60])  # without its size
    with pytest.raises(BadFileError, match="cannot be decoded"):
        images.read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("rest", [b"more", b"P6\n1 1\n255\nabc"])
def test_bytes_after_a_ppm_are_ignored(tmp_path, photograph, rest):
    path = _write(tmp_path, "a.ppm", _encoded(photograph, "PPM") + rest)
    assert np.array_equal(images.read_image(path), photograph)


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "JPEG2000", "MPO", "JPEG", "WEBP", "TIFF", "PPM", "BMP", "PNG"])
def test_every_kind_that_is_offered_is_read(tmp_path, photograph, kind):
    flat = np.full_like(photograph, 200)
    assert np.abs(images.read_image(_write(tmp_path, "a", _encoded(flat, kind))).astype(int) - 200).max() <= 2


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"%PDF-1.7\n",
        b"<svg/>",
        b"Pf\n1 1\n-1\n\0\0\0\0",
    ],
)
def test_only_known_kinds_reach_a_decoder(tmp_path, monkeypatch, content):
    """Pillow starts Ghostscript on PostScript, whatever the name of the file."""
    monkeypatch.setattr("subprocess.check_call", None)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(BadFileError, match="not an image in a known format"):
        images.read_image(_write(tmp_path, "photo.png", content))


def test_png16_keeps_every_value(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    images.write_png16(tmp_path / "a.png", values)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), values)


def test_pfm_is_the_originals_file(tmp_path):
    values = np.random.default_rng(0).random((5, 7), np.float32)
    images.write_pfm(tmp_path / "a.pfm", values)
    content = (tmp_path / "a.pfm").read_bytes()
    assert content == b"Pf\n7 5\n-1.000000\n" + values[::-1].astype("<f4").tobytes()
    assert np.array_equal(images.read_pfm(tmp_path / "a.pfm"), values)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.pfm"), cv2.IMREAD_UNCHANGED), values)


def test_read_pfm_of_the_other_byte_order(tmp_path):
    path = _write(tmp_path, "a.pfm", b"Pf\n2 1\n1.0\n" + np.array([1, 2], ">f4").tobytes())
    assert images.read_pfm(path).tolist() == [[1, 2]]


@pytest.mark.parametrize("content", [b"", b"PF\n1 1\n-1\n" + bytes(12), b"Pf\n2 2\n-1.0\n" + bytes(15), b"Pf\n2\n"])
def test_read_pfm_refuses_what_is_none(tmp_path, content):
    with pytest.raises(BadFileError):
        images.read_pfm(_write(tmp_path, "a.pfm", content))


def test_write_color_is_inferno(tmp_path):
    images.write_color(tmp_path / "a.png", np.linspace(0, 9, 256, dtype=np.float32)[None])
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[..., ::-1]
    found = images.read_image(tmp_path / "a.png")
    assert np.array_equal(found[0, [0, -1]], expected[0, [0, -1]])
    assert found[0, -1].sum() > found[0, 0].sum()


@pytest.mark.parametrize("classes", [150, 20])
def test_write_labels_keeps_labels_and_colours(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, classes + 1, (20, 30)).astype(np.uint16)
    images.write_labels(tmp_path / "a.png", labels, classes)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), palette(classes)[labels])


@pytest.mark.parametrize(("label", "classes"), [(21, 20), (-1, 20), (1, 256)])
def test_write_labels_refuses_what_does_not_fit(tmp_path, label, classes):
    with pytest.raises(UsageError, match="do not fit"):
        images.write_labels(tmp_path / "a.png", np.full((2, 2), label), classes)
    assert not list(tmp_path.iterdir())


def test_write_overlay_is_the_originals_blend(tmp_path, photograph):
    labels = np.random.default_rng(0).integers(0, 151, photograph.shape[:2])
    images.write_overlay(tmp_path / "a.png", photograph, labels, 150)
    unit = photograph / 255.0
    mask = Image.fromarray(palette(150)[labels]).convert("RGBA")
    expected = Image.blend(Image.fromarray(np.uint8(255 * unit)).convert("RGBA"), mask, 0.5)
    with Image.open(tmp_path / "a.png") as found:
        assert found.mode == "RGBA"
        assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.fixture
def small_files():
    """Files may not grow past 4 KiB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_nothing(tmp_path, small_files):
    for write in (images.write_pfm, images.write_color):
        with pytest.raises(ResourceError, match="File too large") as caught:
            write(tmp_path / "a", np.random.default_rng(0).random((64, 64), np.float32))
        assert "ulimit" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_write_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(ResourceError, match="No such file") as caught:
        images.write_png16(tmp_path / "none" / "a.png", np.zeros((2, 2), np.uint16))
    assert "create the folder" in caught.value.hint


def _record(path, shape, count=4):
    with VideoWriter(path, 12.5) as video:
        for number in range(count):
            video.write(np.full((*shape, 3), (40 * number, 20, 90), np.uint8))


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_video_round_trip(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    _record(path, (64, 96))
    video = iter_video(path)
    fps, pixels = video.fps, list(video.frames)
    assert (fps, len(pixels), pixels[0].shape) == (12.5, 4, (64, 96, 3))
    assert np.abs(pixels[3].mean((0, 1)) - (120, 20, 90)).max() < 6  # and not BGR
    assert list(tmp_path.iterdir()) == [path]


def test_video_of_odd_size_is_padded_not_cropped(tmp_path):
    _record(tmp_path / "a.mp4", (63, 95))
    assert next(iter_video(tmp_path / "a.mp4").frames).shape == (64, 96, 3)


def _fail_while_recording(path):
    with VideoWriter(path, 25) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        video.write(np.zeros((32, 64, 3), np.uint8))


def test_video_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="the first was"):
        _fail_while_recording(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="no frame"):
        _record(tmp_path / "a.mp4", (32, 32), count=0)
    with pytest.raises(UsageError, match="cannot hold"):
        _record(tmp_path / "a.txt", (32, 32))
    with pytest.raises(ResourceError, match="cannot write"):
        _record(tmp_path / "none" / "a.mp4", (32, 32))
    assert not list(tmp_path.iterdir())


def _record_noise(path):
    rng = np.random.default_rng(0)
    with VideoWriter(path, 25) as video:
        for _ in range(6):
            video.write(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_video_cut_off_by_a_full_disk_is_an_error(tmp_path, small_files):
    with pytest.raises(ResourceError, match="of 6 frames"):
        _record_noise(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


CASES = Path(__file__).parents[1] / "support" / "videos"


@pytest.mark.parametrize(("name", "least"), [("corrupt_mid.mp4", 56), ("trunc_faststart.mp4", 29)])
def test_a_damaged_video_goes_on_and_counts(name, least, capfd):
    video = iter_video(CASES / name)
    assert len(list(video.frames)) == video.decoded >= least
    assert (video.claimed, video.shortfall) == (60, 60 - video.decoded)
    assert video.shortfall > 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", sorted(images.WRITABLE_VIDEO_SUFFIXES | {".ts", ".mpg", ".wmv"}))
def test_an_intact_video_lacks_nothing(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 64))
    for number in range(8):
        writer.write(np.full((64, 64, 3), 20 * number, np.uint8))
    writer.release()
    video = iter_video(path)
    assert (len(list(video.frames)), video.shortfall) == (8, 0)


def test_a_webm_video_is_read(tmp_path):
    path = tmp_path / "a.webm"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), 25.0, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV has no encoder for VP8")
    for number in range(4):
        writer.write(np.full((64, 64, 3), (90, 20, 40 * number), np.uint8))
    writer.release()
    video = iter_video(path)
    pixels = list(video.frames)
    assert (len(pixels), pixels[0].shape, video.shortfall) == (4, (64, 64, 3), 0)
    assert np.abs(pixels[3].mean((0, 1)) - (120, 20, 90)).max() < 12


@pytest.mark.parametrize("fps", [105.611, 119.4567, 196.263, 211.222, 29.97, 59.94006, 23.976, 30.0, 7.77777, 960.123])
def test_every_frame_rate_is_written_with_the_nearest_that_fits(tmp_path, fps):
    path = tmp_path / "a:b.mp4"  # a colon is no protocol
    with VideoWriter(path, fps) as video:
        for _ in range(4):
            video.write(np.zeros((32, 32, 3), np.uint8))
    assert abs(iter_video(path).fps - fps) < 0.06
    assert (writable_rate(fps) == fps) == (fps in (29.97, 59.94006, 23.976, 30.0, 7.77777))


def test_a_pattern_of_names_or_a_playlist_opens_no_other_file(tmp_path):
    for number in range(4):
        images.write_png16(tmp_path / f"clip{number:03d}.png", np.zeros((32, 32), np.uint16))
    _record(tmp_path / "secret.mp4", (32, 32))
    playlist = _write(
        tmp_path, "list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"
    )
    concat = _write(tmp_path, "list.mp4", b"ffconcat version 1.0\nfile secret.mp4\n")
    pattern = _write(tmp_path, "clip%03d.png", b"text")
    for path in (playlist, concat, pattern):
        with pytest.raises(BadFileError, match="no video"):
            iter_video(path)


@pytest.mark.parametrize("content", [b"", b"just text"])
def test_iter_video_refuses_what_is_none(tmp_path, content):
    with pytest.raises(BadFileError, match="no video"):
        iter_video(_write(tmp_path, "a.mp4", content))
    with pytest.raises(BadFileError, match="does not exist"):
        iter_video(tmp_path / "b.mp4")


def test_a_video_whose_name_is_no_utf8_is_refused(tmp_path):
    _record(tmp_path / "a.mp4", (32, 32))
    name = tmp_path / "bad\udcff.mp4"
    (tmp_path / "a.mp4").rename(name)
    with pytest.raises(BadFileError, match="no UTF-8"):
        iter_video(name)


def test_a_video_in_a_folder_whose_name_is_no_utf8_is_not_written(tmp_path):
    folder = tmp_path / "bad\udcff"
    folder.mkdir()
    with pytest.raises(BadFileError, match="no UTF-8"):
        _record(folder / "a.mp4", (32, 32))
    assert not list(folder.iterdir())
