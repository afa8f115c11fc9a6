"""Image mathematics against what it reproduces: OpenCV, PyTorch, and the original's transform, on real photographs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.imaging import resample, rules

cv2 = pytest.importorskip("cv2")
torch = pytest.importorskip("torch")
data = pytest.importorskip("skimage.data")

# PyTorch's kernels with fused multiply-add are matched; its plain one is a float32 step off.
BICUBIC_TOLERANCE = 1e-5 if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else 1e-6  # of the range
PHOTOGRAPHS = ["astronaut", "coffee", "chelsea", "rocket"]  # these ship inside scikit-image's wheel
BILINEAR = {"bilinear": False, "bilinear-corners": True}  # align_corners
SPECS = {
    "depth": (ImageSpec(384, 384, "minimal", (0.5,) * 3, (0.5,) * 3), 32),
    "segmentation": (ImageSpec(480, 480, "minimal", (0.5,) * 3, (0.5,) * 3), 32),
    "midas": (ImageSpec(384, 384, "upper_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 32),
    "lower": (ImageSpec(266, 266, "lower_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 14),
}


@pytest.fixture(scope="module", params=PHOTOGRAPHS)
def photograph(request):
    return getattr(data, request.param)()


def _original(image, spec, size, interpolation=cv2.INTER_CUBIC):
    """The original's read_image, Resize, NormalizeImage and PrepareForNet."""
    resized = cv2.resize(image / 255.0, (size.width, size.height), interpolation=interpolation)
    normalised = (resized - np.array(spec.mean)) / np.array(spec.std)
    return np.ascontiguousarray(np.transpose(normalised, (2, 0, 1))).astype(np.float32)[None]


def _smooth(shape, seed=0):
    """A map as networks make them: positive, varying over tens of pixels."""
    noise = np.random.default_rng(seed).random((shape[0] // 24 + 2, shape[1] // 24 + 2), np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _torch_resize(values, size, mode="bicubic", **options):
    batch = torch.from_numpy(np.asarray(values))[None]
    return torch.nn.functional.interpolate(batch, size=(size.height, size.width), mode=mode, **options)[0].numpy()


@pytest.mark.parametrize("name", SPECS)
def test_preprocess_is_the_originals_in_every_bit(photograph, name):
    spec, stride = SPECS[name]
    size = rules.network_size(*photograph.shape[:2], spec, stride)
    assert np.array_equal(rules.preprocess(photograph, spec, stride), _original(photograph, spec, size))


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_LANCZOS4])
def test_preprocess_check_notices_another_filter(photograph, interpolation):
    spec, stride = SPECS["depth"]
    size = rules.network_size(*photograph.shape[:2], spec, stride)
    other = _original(photograph, spec, size, interpolation)
    assert np.abs(rules.preprocess(photograph, spec, stride) - other).max() > 1e-3


def test_preprocess_check_notices_bgr_and_float32(photograph):
    spec, stride = SPECS["depth"]
    size = rules.network_size(*photograph.shape[:2], spec, stride)
    found = rules.preprocess(photograph, spec, stride)
    single = cv2.resize(
        (photograph / 255.0).astype(np.float32), (size.width, size.height), interpolation=cv2.INTER_CUBIC
    )
    assert not np.array_equal(found, _original(photograph[..., ::-1], spec, size))
    assert not np.array_equal(found[0].transpose(1, 2, 0), (single - 0.5) / 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_resize_cubic_equals_opencv_at_any_size(seed):
    rng = np.random.default_rng(seed)
    for height, width, new_height, new_width in rng.integers(1, 90, (20, 4)).tolist():
        image = rng.random((height, width, 3))
        expected = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_CUBIC)
        assert np.array_equal(resample.resize_cubic(image, Size(new_height, new_width)), expected)


@pytest.mark.parametrize(
    "sizes", [(900, 700, 192, 352), (40, 1500, 600, 300), (801, 63, 400, 1000), (500, 500, 64, 64)]
)
def test_resize_cubic_equals_opencv_across_blocks(sizes):
    height, width, new_height, new_width = sizes
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)
    expected = cv2.resize(image / 255.0, (new_width, new_height), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resample.cubic_in_numpy(image, Size(new_height, new_width), 255.0), expected)


@pytest.mark.parametrize("divisor", [1.0, 255.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_resized_by_opencv_to_the_same_bits(channels, divisor):
    rng = np.random.default_rng(channels)
    for height, width, new_height, new_width in rng.integers(1, 90, (40, 4)).tolist():
        image = rng.integers(0, 256, (height, width, channels), np.uint8)
        image, size = (image if channels == 3 else image[..., 0])[:, ::-1], Size(new_height, new_width)
        found = resample.cubic(image, size, divisor)
        assert np.array_equal(found, resample.cubic_in_numpy(image, size, divisor))
        assert found.dtype == np.float64


class Rounded:
    """OpenCV as another processor might compute: with single precision in between."""

    LUT, INTER_CUBIC = staticmethod(cv2.LUT), cv2.INTER_CUBIC

    def __init__(self):
        self.calls = 0

    def resize(self, values, size, interpolation):
        self.calls += 1
        return cv2.resize(values.astype(np.float32), size, interpolation=interpolation).astype(np.float64)


def test_an_opencv_that_rounds_in_another_way_is_not_used(monkeypatch, photograph):
    other = Rounded()
    monkeypatch.setitem(sys.modules, "cv2", other)
    for _ in range(2):
        found = resample.cubic(photograph, Size(33, 70), 255.0)
    assert np.array_equal(found, resample.cubic_in_numpy(photograph, Size(33, 70), 255.0))
    assert other.calls == 1  # it is compared once


def test_a_large_image_is_not_converted_as_a_whole(monkeypatch, photograph):
    size = Size(33, 70)
    whole = resample.cubic(photograph, size, 255.0)
    monkeypatch.setattr(resample, "_WHOLE_BYTES", photograph.nbytes - 1)
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert np.array_equal(resample.cubic(photograph, size, 255.0), whole)


def test_resize_cubic_equals_opencv_on_a_map():
    values = np.random.default_rng(9).random((40, 30))
    expected = cv2.resize(values, (70, 21), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resample.resize_cubic(values, Size(21, 70)), expected)
    assert resample.resize_cubic(values, Size(70, 21)).shape != expected.shape


@pytest.mark.parametrize("source", [(384, 512), (384, 672), (384, 384), (224, 160)])
@pytest.mark.parametrize("size", [Size(480, 640), Size(300, 451), Size(720, 1280)])
def test_resize_bicubic_is_pytorchs(source, size):
    values = _smooth(source)
    expected = _torch_resize(values[None], size)[0]
    assert np.abs(resample.resize_bicubic(values, size) - expected).max() <= BICUBIC_TOLERANCE * np.ptp(values)


def test_resize_bicubic_is_pytorchs_on_noise():
    """White noise magnifies positions: one float32 step, on which PyTorch's kernels disagree, is 4e-5 of its range."""
    values = np.random.default_rng(1).random((2, 384, 672), np.float32)
    expected = _torch_resize(values, Size(1080, 1920))
    assert np.abs(resample.resize_bicubic(values, Size(1080, 1920)) - expected).max() <= 1e-4


@pytest.mark.parametrize("options", [{"antialias": True}, {"align_corners": True}, {"mode": "bilinear"}])
def test_bicubic_check_notices_another_filter(options):  # antialias also means a = -0.5
    values = _smooth((96, 64))
    other = _torch_resize(values[None], Size(300, 451), **options)[0]
    assert np.abs(resample.resize_bicubic(values, Size(300, 451)) - other).max() > 1e-3


@pytest.mark.parametrize("source", [(518, 686), (37, 49), (1, 14), (14, 1), (1, 1)])
@pytest.mark.parametrize("size", [Size(480, 640), Size(1080, 1920), Size(1, 7), Size(1, 1)])
@pytest.mark.parametrize("rule", BILINEAR)
def test_bilinear_is_pytorchs_down_to_one_row(source, size, rule):
    values = _smooth(source)
    expected = _torch_resize(values[None], size, "bilinear", align_corners=BILINEAR[rule])[0]
    assert np.abs(resample.restore(values, size, rule) - expected).max() <= BICUBIC_TOLERANCE * max(np.ptp(values), 1)


@pytest.mark.parametrize("rule", BILINEAR)
def test_bilinear_check_notices_the_other_corner_rule(rule):
    values = _smooth((96, 64))
    other = _torch_resize(values[None], Size(300, 451), "bilinear", align_corners=not BILINEAR[rule])[0]
    assert np.abs(resample.restore(values, Size(300, 451), rule) - other).max() > 1e-3


def test_aligned_corners_meet():
    values = np.random.default_rng(3).random((5, 9), np.float32)
    found = resample.restore(values, Size(17, 33), "bilinear-corners")
    assert np.array_equal(found[::4, ::4], values)


@pytest.mark.parametrize("image", [(480, 640), (240, 320), (1080, 1920), (1500, 1000), (517, 519), (1, 4000)], ids=str)
def test_preprocess_at_stride_14_is_the_originals_in_every_bit(image):
    spec = ImageSpec(518, 518, "lower_bound", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = np.random.default_rng(4).integers(0, 256, (*image, 3), dtype=np.uint8)
    size = rules.network_size(*image, spec, 14)
    assert min(size.height, size.width) == 518
    if image != (1, 4000):  # its network size has 500 million pixels a row of 518
        assert np.array_equal(rules.preprocess(pixels, spec, 14), _original(pixels, spec, size))


@pytest.mark.parametrize("size", [Size(121, 203), Size(40, 50), Size(64, 96)])
def test_labels_are_pytorchs_but_for_ties(size):
    logits = np.stack([_smooth((64, 96), seed) for seed in range(30)])
    whole = _torch_resize(logits, size)
    first, second = np.sort(whole, 0)[[-1, -2]]
    clear = first - second > 1e-5
    assert clear.mean() > 0.99
    assert np.array_equal(resample.labels_from_logits(logits, size)[clear], (whole.argmax(0) + 1)[clear])


def test_labels_check_notices_resized_labels():
    logits = np.stack([_smooth((64, 96), seed) for seed in range(30)])
    labels = resample.labels_from_logits(logits, Size(121, 203))
    assert not np.array_equal(resample.resize_labels(logits.argmax(0) + 1, Size(121, 203)), labels)


@pytest.mark.parametrize("size", [Size(128, 192), Size(32, 48), Size(17, 5)])  # ties, if any, are exact in float32
def test_resize_labels_is_nearest_exact(size):
    labels = np.random.default_rng(2).integers(1, 151, (64, 96)).astype(np.float32)
    found = resample.resize_labels(labels, size)
    assert np.array_equal(found, _torch_resize(labels[None], size, "nearest-exact")[0])
    floor = labels[np.ix_(np.arange(size.height) * 64 // size.height, np.arange(size.width) * 96 // size.width)]
    assert np.array_equal(found, floor) == (size == Size(128, 192))  # the other rule agrees at whole factors only
