"""Histograms in bounded memory, and where each method clips."""

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from dpt_deploy.core.precision import CLIPPING_METHODS
from dpt_deploy.graph.precision.clipping import STEPS, clipping_value
from dpt_deploy.graph.precision.histograms import BINS, MIDDLES, Histograms

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=200_000).astype(np.float32)
OUTLIER = np.concatenate([NORMAL, [100.0]]).astype(np.float32)


def counts(values):
    histograms = Histograms(["x"])
    histograms.add({"x": values})
    return histograms.counts("x")


def clipped(values, method):
    return clipping_value(counts(values), float(np.abs(values).max()), method)


def test_every_number_falls_into_the_bin_that_its_magnitude_says():
    values = np.concatenate([NORMAL, [0.0, -0.0, 1e-30, -3e38]]).astype(np.float32)
    found = counts(values.reshape(2, -1))
    assert found.sum() == values.size
    used = np.flatnonzero(found[1:]) + 1
    middles = np.repeat(MIDDLES[used], found[used])
    exact = np.sort(np.abs(values[values != 0]))
    np.testing.assert_allclose(np.sort(middles), exact, rtol=1 / 64)
    assert MIDDLES.size == BINS


def test_neither_the_order_nor_the_split_of_the_images_matters():
    whole, parts = Histograms(["x", "y"]), Histograms(["x", "y"])
    whole.add({"x": NORMAL, "y": OUTLIER})
    for part in np.array_split(NORMAL, 7)[::-1]:
        parts.add({"x": part})
    parts.add({"y": OUTLIER[::-1]})
    for name in ("x", "y"):
        np.testing.assert_array_equal(whole.counts(name), parts.counts(name))


def test_min_max_clips_nothing_and_the_others_clip_an_outlier():
    assert clipped(OUTLIER, "min-max") == 100.0
    assert 2.0 < clipped(OUTLIER, "percentile") < 10.0
    assert 2.0 < clipped(OUTLIER, "entropy") < 10.0
    assert 10.0 < clipped(OUTLIER, "mse") < 100.0  # the outlier's own error counts there


def test_the_percentile_is_that_of_numpy():
    assert clipped(NORMAL, "percentile") == pytest.approx(np.percentile(np.abs(NORMAL), 99.99), rel=1 / 64)


def quantisation_error(values, clip):
    size = clip / STEPS
    return np.mean((np.clip(np.rint(values / size), -STEPS, STEPS) * size - values) ** 2)


@pytest.mark.parametrize("values", [NORMAL, OUTLIER, RNG.laplace(size=100_000).astype(np.float32)])
def test_mse_is_as_good_as_the_best_of_many_tried(values):
    largest = float(np.abs(values).max())
    best = min(quantisation_error(values, largest * share) for share in np.linspace(0.02, 1, 200))
    assert quantisation_error(values, clipped(values, "mse")) <= 1.1 * best
    assert quantisation_error(OUTLIER, 100.0) > 1.5 * quantisation_error(OUTLIER, clipped(OUTLIER, "mse"))


def test_entropy_clips_where_onnx_runtimes_own_does():
    heavy = RNG.standard_t(3, size=300_000).astype(np.float32)
    heavy = heavy[np.abs(heavy) < 40]
    largest = float(np.abs(heavy).max())
    collector = HistogramCollector("entropy", True, 4096, 256, 99.99, "same")
    histogram, edges = np.histogram(heavy, bins=4096, range=(-largest, largest))
    _low, high = collector.get_entropy_threshold((histogram, edges, -largest, largest, largest), 128)
    assert clipped(heavy, "entropy") == pytest.approx(float(high), rel=0.3)
    assert clipped(heavy, "entropy") < 0.8 * largest


@pytest.mark.parametrize("method", CLIPPING_METHODS)
def test_a_tensor_of_zeros_has_a_value_all_the_same(method):
    assert clipped(np.zeros(10, np.float32), method) == 0.0


@pytest.mark.parametrize("method", CLIPPING_METHODS)
def test_no_more_than_the_largest(method):
    assert clipped(np.full(100, 3.0, np.float32), method) == pytest.approx(3.0, rel=0.05)
    assert clipped(np.full(100, 3.0, np.float32), method) <= 3.0
