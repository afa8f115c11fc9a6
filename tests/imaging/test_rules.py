"""Image mathematics against golden vectors and against properties that need NumPy only."""

from __future__ import annotations

import importlib
import json
import sys
import tracemalloc

import numpy as np
import pytest
from support.make_imaging_golden import GOLDEN, golden, run_case, spec_of

from dpt_deploy.core.errors import MissingExtraError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_path, atomic_write_bytes
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging import encode, resample, rules
from dpt_deploy.imaging.palette import palette

pytestmark = pytest.mark.fast

DOCUMENT = json.loads((GOLDEN / "imaging.json").read_text("utf-8"))
CASES = {case["name"]: case for case in DOCUMENT["cases"]}

UINT16_MAX = 65535

# The original's Resize.get_size, width x height; columns: see TARGETS.
SIZES = """
640x480    512x384   640x480   480x352    640x480   672x512   384x288  686x518
480x640    384x512   480x640   256x352    352x480   512x672   288x384  518x686
1242x375   1280x384  1600x480  1216x352   1600x480  1696x512  384x128  1722x518
1216x352   1312x384  1664x480  1216x352   1664x480  1760x512  384x96   1792x518
1920x1080  672x384   864x480   1216x672   864x480   896x512   384x224  924x518
1080x1920  384x672   480x864   1216x2176  640x1152  512x896   224x384  518x924
320x240    384x288   480x352   480x352    640x480   512x384   384x288  686x518
500x300    384x224   480x288   576x352    640x384   512x320   384x224  868x518
400x1000   384x960   480x1216  128x352    192x480   512x1280  160x384  518x1288
1024x436   896x384   1120x480  1216x512   1120x480  1216x512  384x160  1218x518
"""
TARGETS = [
    (spec_of(384, 384, "minimal"), 32),
    (spec_of(480, 480, "minimal"), 32),
    (spec_of(352, 1216, "minimal"), 32),
    (spec_of(480, 640, "minimal"), 32),
    (spec_of(512, 512, "minimal"), 32),
    (spec_of(384, 384, "upper_bound"), 32),
    (spec_of(518, 518, "lower_bound"), 14),
]


def _swapped_size(text):
    width, height = map(int, text.split("x"))
    return Size(height, width)


@pytest.fixture(scope="module")
def arrays():
    with np.load(GOLDEN / "imaging.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("line", SIZES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_network_size_is_the_originals(line):
    image, *expected = map(_swapped_size, line.split())
    found = [rules.network_size(image.height, image.width, spec, stride) for spec, stride in TARGETS]
    assert found == expected


def test_network_size_table_notices_swapped_sides():
    image, expected = Size(1080, 1920), Size(384, 672)
    assert rules.network_size(image.width, image.height, *TARGETS[0]) != expected


def size_in_depth_anything_3(height, width):
    """The authors' steps: the longest side becomes 504 pixels, in whole pixels; then the nearest 14, a tie goes up."""
    scale = 504 / max(height, width)
    pixels = [max(1, round(scale * side)) for side in (height, width)]
    return Size(*(max(14, (side + 7) // 14 * 14) for side in pixels))


def test_network_size_of_depth_anything_3_rounds_once_where_the_authors_round_twice():
    spec = spec_of(504, 504, "upper_bound")
    rng = np.random.default_rng(0)
    images = [*rng.integers(200, 4000, (2000, 2)).tolist(), (480, 640), (1080, 1920), (1920, 1080), (768, 1024)]
    pairs = [(rules.network_size(*image, spec, 14), size_in_depth_anything_3(*image)) for image in images]
    other = [(ours, theirs) for ours, theirs in pairs if ours != theirs]
    assert len(other) < 0.05 * len(pairs)  # whole pixels that are 7 beyond a multiple
    assert all(pair[0] == pair[1] for pair in pairs[-4:])
    for ours, theirs in other:
        assert max(ours.height, ours.width) == max(theirs.height, theirs.width) == 504
        assert min(ours.height, ours.width) + 14 == min(theirs.height, theirs.width)


def test_network_size_rounds_half_to_even():
    assert rules.network_size(384, 400, *TARGETS[0]) == Size(384, 384)  # 12.5 strides


def test_network_size_check_notices_half_away_from_zero(monkeypatch):
    monkeypatch.setattr(rules.np, "round", lambda x: np.floor(x + 0.5))
    assert rules.network_size(384, 400, *TARGETS[0]) == Size(384, 416)


def test_network_size_follows_the_height_on_a_tie():
    assert rules.network_size(256, 768, *TARGETS[0]) == Size(384, 1152)  # scales 1.5 and 0.5


def test_network_size_ignores_the_aspect_on_request():
    assert rules.network_size(1080, 1920, spec_of(256, 320, "minimal", keep_aspect=False), 32) == Size(256, 320)


@pytest.mark.parametrize("image", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize(("spec", "stride"), TARGETS[:6])
def test_network_size_is_never_zero(image, spec, stride):
    size = rules.network_size(*image, spec, stride)
    assert min(size.height, size.width) >= stride
    assert (size.height % stride, size.width % stride) == (0, 0)


@pytest.mark.parametrize("entry", DOCUMENT["sizes"], ids=lambda entry: f"{entry['image']}-{entry['spec']['resize']}")
def test_golden_sizes(entry):
    size = rules.network_size(*entry["image"], ImageSpec(**entry["spec"]), entry["stride"])
    assert [size.height, size.width] == entry["expected"]


@pytest.mark.parametrize("opencv", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_golden_vectors_bit_for_bit(name, opencv, arrays, monkeypatch):
    if opencv:
        pytest.importorskip("cv2", reason="the bare install has no OpenCV")
    else:
        monkeypatch.setitem(sys.modules, "cv2", None)
    expected, found = arrays[f"{name}.output"], run_case(CASES[name], arrays[f"{name}.input"])
    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@pytest.mark.parametrize("name", [name for name in CASES if name[3:] in ("preprocess", "resize_bicubic", "restore")])
def test_golden_vectors_notice_a_changed_input(name, arrays):
    values = arrays[f"{name}.input"].copy()
    values += 1
    assert run_case(CASES[name], values).tobytes() != arrays[f"{name}.output"].tobytes()


def test_golden_files_hold_what_the_script_makes(arrays):
    document, made = golden()
    assert json.loads(json.dumps(document)) == DOCUMENT
    assert made.keys() == arrays.keys()
    assert all(made[key].tobytes() == arrays[key].tobytes() for key in made if key.endswith(".input"))


@pytest.mark.parametrize("resize", [resample.resize_cubic, resample.resize_bicubic])
def test_same_size_is_the_identity(resize):
    values = np.random.default_rng(0).random((7, 9), np.float32)
    same = resize(values, Size(7, 9))
    assert np.array_equal(same, values)
    assert not np.shares_memory(same, values)


def _keys_kernel(distance, a):
    d = np.abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@pytest.mark.parametrize("resize", [resample.resize_cubic, resample.resize_bicubic])
def test_impulse_response_is_the_cubic_kernel(resize):
    impulse = np.zeros((9, 9), np.float32)
    impulse[4, 4] = 1
    distance = (np.arange(27) + 0.5) / 3 - 0.5 - 4
    found = resize(impulse, Size(27, 27))
    kernel, other = (np.outer(k, k) for k in (_keys_kernel(distance, -0.75), _keys_kernel(distance, -0.5)))
    assert np.allclose(found, kernel, atol=1e-6)
    assert not np.allclose(found, other, atol=1e-2)


@pytest.mark.parametrize("resize", [resample.resize_cubic, resample.resize_bicubic])
def test_a_constant_stays_constant_to_the_border(resize):
    assert np.allclose(resize(np.full((5, 7), 3.0, np.float32), Size(12, 4)), 3.0, atol=1e-6)


def test_resize_bicubic_keeps_leading_dimensions():
    maps = np.random.default_rng(1).random((2, 3, 6, 5), np.float32)
    out = resample.resize_bicubic(maps, Size(9, 8))
    assert out.shape == (2, 3, 9, 8)
    assert np.array_equal(out[1, 2], resample.resize_bicubic(maps[1, 2], Size(9, 8)))


def test_preprocess_layout():
    image = np.random.default_rng(2).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    spec = spec_of(32, 32, "minimal", ((0.1, 0.2, 0.3), (0.5, 0.25, 0.125)))
    out = rules.preprocess(image, spec, 32)
    expected = ((image / 255.0 - spec.mean) / spec.std).astype(np.float32).transpose(2, 0, 1)[None]
    assert np.array_equal(out, expected)
    assert out.flags.c_contiguous


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_preprocess_refuses_what_is_not_8_bit_rgb(bad):
    with pytest.raises(UsageError, match="expected uint8"):
        rules.preprocess(bad, *TARGETS[0])


def _checkerboard():
    return np.kron([[0, 255], [255, 0]], np.ones((45, 60)))[..., None].repeat(3, -1).astype(np.uint8)


def _slopes():
    rows, cols = np.mgrid[:90, :120]
    return np.stack([rows * 2, cols * 2, rows + cols], -1).astype(np.uint8)


@pytest.mark.parametrize("make", [_slopes, _checkerboard])  # the second one overshoots on both sides
def test_uint8_input_is_near_the_float_input_and_clipped(make):
    spec = spec_of(64, 64, "minimal")
    levels = (rules.preprocess(make(), spec, 32)[0].transpose(1, 2, 0) * 0.5 + 0.5) * 255
    found = rules.resize_uint8_input(make(), spec, 32)
    assert (found.shape, found.dtype) == ((1, 64, 96, 3), np.uint8)
    assert np.abs(found[0] - levels.clip(0, 255)).max() <= 0.5 + 1e-4
    if make is _checkerboard:
        assert np.abs(found[0] - levels).max() > 5


def test_kitti_crop_is_bottom_and_centre():
    rows, cols = np.mgrid[:375, :1242]
    crop = rules.kitti_crop(np.stack([rows, cols], -1))
    assert crop.shape == (352, 1216, 2)
    assert crop[0, 0].tolist() == [23, 13]


@pytest.mark.parametrize("shape", [(351, 1216, 3), (352, 1215, 3)])
def test_kitti_crop_refuses_a_smaller_image(shape):
    with pytest.raises(UsageError, match="352x1216"):
        rules.kitti_crop(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("size", [Size(70, 150), Size(33, 41), Size(11, 9)])
def test_labels_equal_the_whole_computation(size):
    logits = np.random.default_rng(3).standard_normal((21, 33, 41), np.float32)
    whole = resample.resize_bicubic(logits, size)
    first, second = np.sort(whole, 0)[[-1, -2]]
    labels = resample.labels_from_logits(logits, size, block_bytes=2**18)
    clear = first - second > 1e-5
    assert clear.mean() > 0.99
    assert np.array_equal(labels[clear], whole.argmax(0)[clear] + 1)
    assert not np.array_equal(labels[clear], whole.argmax(0)[clear])  # 1-based


def test_labels_of_equal_classes_are_the_first():
    assert (resample.labels_from_logits(np.zeros((5, 4, 4), np.float32), Size(9, 9)) == 1).all()


def _peak_bytes(function, *args):
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("block_bytes", [2**23, 2**26])
def test_labels_of_a_full_frame_need_bounded_memory(block_bytes):
    logits = np.random.default_rng(4).standard_normal((150, 120, 216), np.float32)
    size = Size(1080, 1920)
    result_bytes = 2 * size.height * size.width
    assert _peak_bytes(resample.labels_from_logits, logits, size, block_bytes) < result_bytes + block_bytes


def test_labels_of_shrunk_logits_need_bounded_memory():
    logits = np.zeros((40, 640, 640), np.float32)
    assert _peak_bytes(resample.labels_from_logits, logits, Size(64, 64), 2**22) < 2**22


def test_memory_check_notices_full_size_logits():
    logits = np.zeros((20, 30, 54), np.float32)
    assert _peak_bytes(resample.resize_bicubic, logits, Size(270, 480)) > 20 * 270 * 480 * 4


def test_resize_labels_invents_no_label_and_keeps_centres():
    labels = np.array([[1, 150], [7, 9]], np.uint16)
    assert resample.resize_labels(labels, Size(4, 6)).tolist() == [[1] * 3 + [150] * 3] * 2 + [[7] * 3 + [9] * 3] * 2
    assert np.array_equal(resample.resize_labels(resample.resize_labels(labels, Size(6, 6)), Size(2, 2)), labels)


def _original_uint16(depth):
    low, high = depth.min(), depth.max()
    return (UINT16_MAX * (depth - low) / (high - low)).astype(np.uint16)


def test_depth_to_uint16_has_the_originals_pixels():
    depth = np.random.default_rng(5).gamma(2, 800, (50, 60)).astype(np.float32)
    assert np.array_equal(encode.depth_to_uint16(depth), _original_uint16(depth))
    rounded = np.rint(UINT16_MAX * (depth - depth.min()) / np.ptp(depth))
    assert not np.array_equal(encode.depth_to_uint16(depth), rounded)  # it truncates


def test_depth_to_uint16_survives_half_precision_and_huge_values():
    half = np.linspace(0, 60000, 100, dtype=np.float16)
    with pytest.warns(RuntimeWarning):
        assert len(np.unique(_original_uint16(half))) < 5  # the original's overflow
    assert len(np.unique(encode.depth_to_uint16(half))) > 95
    huge = np.array([-3e38, 0, 3e38], np.float32)
    assert encode.depth_to_uint16(huge).tolist() == [0, 32767, 65535]


@pytest.mark.parametrize("flat", [np.full((2, 2), 3.5, np.float32), np.full((2, 2), np.nan, np.float32)])
def test_depth_to_uint16_of_a_flat_map_is_zero(flat):
    assert encode.depth_to_uint16(flat).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("odd", [(), (np.nan,), (np.inf, -np.inf), (np.nan, np.inf)])
def test_depth_to_uint16_in_blocks_is_the_formula(dtype, odd):
    depth = (np.random.default_rng(4).random((300, 700)) * 50 + 3).astype(dtype)
    depth.flat[: len(odd)] = odd
    finite = depth[np.isfinite(depth)]
    low, high = float(finite.min()), float(finite.max())
    scaled = encode.UINT16_MAX * (depth.astype(np.result_type(dtype, np.float32)) - low) / (high - low)
    expected = np.nan_to_num(scaled, nan=0, posinf=encode.UINT16_MAX, neginf=0).clip(0, encode.UINT16_MAX)
    assert np.array_equal(encode.depth_to_uint16(depth), expected.astype(np.uint16))
    assert not np.array_equal(encode.depth_to_uint16(depth), np.rint(expected).astype(np.uint16))


def test_depth_to_uint16_takes_its_range_from_finite_values():
    depth = np.array([np.nan, -np.inf, np.inf, 1, 3], np.float32)
    assert encode.depth_to_uint16(depth).tolist() == [0, 0, 65535, 0, 65535]


def test_metric_to_uint16_saturates_and_truncates():
    metres = np.array([0, 1.999, 80, 1000, -1, np.nan, np.inf], np.float32)
    assert encode.metric_to_uint16(metres, 256.0).tolist() == [0, 511, 20480, 65535, 0, 0, 65535]


def test_palette_ade20k():
    colours = palette(150)
    assert (colours.shape, colours.dtype) == ((151, 3), np.uint8)
    assert [colours[i].tolist() for i in (0, 1, 2, 150)] == [[0, 0, 0], [120, 120, 120], [180, 120, 120], [92, 0, 255]]


@pytest.mark.parametrize("classes", [1, 20, 149, 255])
def test_palette_pascal_voc(classes):
    colours = palette(classes)
    assert colours.shape == (classes + 1, 3)
    assert colours[:2].tolist() == [[0, 0, 0], [128, 0, 0]]
    assert len(np.unique(colours, axis=0)) == classes + 1
    if classes >= 20:
        assert colours[[15, 20]].tolist() == [[192, 128, 128], [0, 64, 128]]  # person, tv monitor


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"old")
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def _interrupted_write(path):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt


def test_atomic_write_keeps_the_old_file_when_interrupted(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted_write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_follows_a_link(tmp_path):
    link, real = tmp_path / "link", tmp_path / "real"
    link.symlink_to(real)
    atomic_write_bytes(link, b"data")
    assert link.is_symlink()
    assert real.read_bytes() == b"data"


@pytest.mark.parametrize(("name", "error"), [("missing/a.bin", ResourceError), ("x" * 300, UsageError)])
def test_atomic_write_says_why_it_cannot(tmp_path, name, error):
    with pytest.raises(error, match=r"cannot write|too long") as caught:
        atomic_write_bytes(tmp_path / name, b"data")
    assert caught.value.hint


def test_atomic_write_refuses_a_folder(tmp_path):
    with pytest.raises(UsageError, match="not a regular file"):
        atomic_write_bytes(tmp_path, b"data")


@pytest.mark.parametrize("module", ["cv2", "PIL"])
def test_images_without_its_extra_names_the_line_to_install(monkeypatch, module):
    if module == "PIL":
        pytest.importorskip("cv2", reason="OpenCV, which is imported first, is not installed")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "dpt_deploy.imaging.files", raising=False)
    with pytest.raises(MissingExtraError, match=module) as caught:
        importlib.import_module("dpt_deploy.imaging.files")
    assert "[images]" in caught.value.hint


@pytest.mark.parametrize("image", [None, [[[1, 2, 3]]], "photo.jpg"])
def test_what_is_no_array_is_no_image(image):
    with pytest.raises(UsageError, match="expected a NumPy array"):
        rules.require_rgb(image)
