"""Protocols: one prediction evaluated, many summarised, and both compared with independent code."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec
from dpt_deploy.datasets.base import OrdinalPair, Sample
from dpt_deploy.datasets.evaluate import evaluate_plane, evaluate_sample, resize_bilinear
from dpt_deploy.datasets.protocols import METRICS, PROTOCOLS
from dpt_deploy.imaging.rules import network_size

torch = pytest.importorskip("torch")
F = torch.nn.functional


def depth_sample(seed=0, shape=(48, 64), near=0.5, far=9.0):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(near, far, shape).astype(np.float32)
    valid = rng.random(shape) < 0.8
    return Sample("x", np.zeros((*shape, 3), np.uint8), valid, depth=np.where(valid, depth, 0).astype(np.float32))


def segmented(labels):
    return Sample("x", np.zeros((*labels.shape, 3), np.uint8), labels > 0, labels=labels.astype(np.uint8))


# --- protocols as data ------------------------------------------------------------------------------------------------


def test_protocols_are_those_of_the_paper():
    caps = {name: protocol.cap for name, protocol in PROTOCOLS.items() if protocol.kind in ("zero-shot", "metric")}
    assert caps == {
        "eth3d": 72,
        "sintel": 72,
        "sintel-clean": 72,
        "kitti": 80,
        "nyu": 10,
        "tum": 10,
        "kitti-metric": 80,
        "nyu-metric": 10,
    }
    assert {protocol.metric for protocol in PROTOCOLS.values()} <= set(METRICS)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("nyu", (480, 640), Size(288, 384)),
        ("kitti", (375, 1242), Size(384, 1280)),
        ("sintel", (436, 1024), Size(160, 384)),
        ("eth3d", (4032, 6048), Size(256, 384)),
        ("kitti-metric", (352, 1216), Size(352, 1216)),
        ("nyu-metric", (480, 640), Size(480, 640)),
        ("ade20k", (512, 683), Size(480, 640)),
    ],
)
def test_network_sizes(name, image, expected):
    """The MiDaS paper §6: larger axis 384, on KITTI the smaller one; the rest as the original's run scripts."""
    size, rule = PROTOCOLS[name].size, PROTOCOLS[name].resize
    spec = ImageSpec(size.height, size.width, rule, (0.5,) * 3, (0.5,) * 3)
    assert network_size(*image, spec, 32) == expected


# --- zero-shot --------------------------------------------------------------------------------------------------------


def midas_script(prediction, depth, mask, cap):
    """Share above 1.25 and AbsRel, in PyTorch: resize, 2x2 normal equations, floor, invert, as it is written."""
    p = torch.tensor(prediction, dtype=torch.float64)[None, None]
    p = F.interpolate(p, depth.shape, mode="bilinear", align_corners=False)[0, 0]
    m, z = torch.tensor(mask, dtype=torch.float64), torch.tensor(depth, dtype=torch.float64)
    d = torch.where(m > 0, 1 / z.clamp(min=1e-9), 0)
    a = torch.stack([torch.stack([(m * p * p).sum(), (m * p).sum()]), torch.stack([(m * p).sum(), m.sum()])])
    scale, shift = torch.linalg.solve(a, torch.stack([(m * p * d).sum(), (m * d).sum()]))
    found = 1 / (scale * p + shift).clamp(min=1 / cap)
    ratio = torch.maximum(found / z, z / found)[m > 0]
    return float((ratio > 1.25).double().mean()), float(((found - z).abs() / z)[m > 0].mean())


@pytest.mark.parametrize("name", ["nyu", "eth3d", "sintel", "tum", "kitti"])
@pytest.mark.parametrize("seed", range(2))
def test_zero_shot_is_the_authors_protocol(name, seed):
    sample = depth_sample(seed, far=14.0)
    protocol = replace(PROTOCOLS[name], cap=8.0)
    prediction = np.random.default_rng(seed).uniform(0, 5, (12, 20)).astype(np.float32)
    found = evaluate_sample(protocol, prediction, sample)
    mask = sample.valid & (sample.depth < protocol.max_depth)
    share, abs_rel = midas_script(prediction, sample.depth, mask, 8.0)
    assert found["delta1_error"] == pytest.approx(share)
    assert found["abs_rel"] == pytest.approx(abs_rel, rel=1e-5)


def test_a_perfect_prediction_of_any_scale_and_shift_has_no_error():
    sample = depth_sample()
    inverse = 1 / np.where(sample.valid, sample.depth, 1)
    found = evaluate_sample(PROTOCOLS["nyu"], 3000 * inverse + 700, sample)
    assert found["abs_rel"] == pytest.approx(0.0, abs=1e-4)
    assert (found["delta1"], found["delta1_error"]) == (1.0, 0.0)
    assert evaluate_sample(PROTOCOLS["nyu"], np.sqrt(inverse), sample)["abs_rel"] > 0.01


@pytest.mark.parametrize(("name", "counted"), [("nyu", False), ("sintel", False), ("kitti", True)])
def test_what_lies_beyond_the_cap(name, counted):
    """Masked on NYU and Sintel, measured at the cap elsewhere."""
    sample = depth_sample()
    depth = sample.depth.copy()
    depth[0, :10] = 500.0
    sample = replace(sample, depth=depth, valid=depth > 0)
    inverse = 1 / np.where(sample.valid, sample.depth, 1)
    assert (evaluate_sample(PROTOCOLS[name], inverse, sample)["abs_rel"] > 1e-3) is counted


def test_a_frame_beyond_the_cap_altogether_is_empty():
    sample = depth_sample(near=80.0, far=90.0)
    assert evaluate_sample(PROTOCOLS["sintel"], np.ones((3, 4)), sample) == {}
    assert evaluate_sample(PROTOCOLS["kitti-metric"], np.ones((3, 4)), sample) == {}
    assert evaluate_plane(PROTOCOLS["sintel"], sample) == {}
    assert evaluate_sample(PROTOCOLS["kitti"], np.ones((3, 4)), sample) != {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_overflow_is_seen(bad):
    prediction = np.random.default_rng(0).uniform(1, 2, (12, 16))
    prediction[5, 5] = bad
    found = evaluate_sample(PROTOCOLS["nyu"], prediction, depth_sample())
    assert (found["abs_rel"], found["delta1_error"]) == (np.inf, 1.0)


def test_the_plane_is_a_baseline_that_can_be_beaten():
    y, x = np.mgrid[0:48, 0:64]
    depth = (1 / (0.2 + 0.01 * y + 0.002 * x)).astype(np.float32)
    sample = replace(depth_sample(), depth=depth, valid=depth > 0)
    assert evaluate_plane(PROTOCOLS["nyu"], sample)["abs_rel"] == pytest.approx(0.0, abs=1e-6)
    sample = depth_sample()
    flat = evaluate_sample(PROTOCOLS["nyu"], np.ones((4, 4)), sample)
    assert 0 < evaluate_plane(PROTOCOLS["nyu"], sample)["abs_rel"] < flat["abs_rel"]


# --- metric -----------------------------------------------------------------------------------------------------------


def test_metric_clips_as_bts_does():
    """0 and -inf become the least depth, 500 and inf the cap; the rest is compared as it is."""
    sample = replace(depth_sample(shape=(2, 3)), depth=np.full((2, 3), 40, np.float32), valid=np.ones((2, 3), bool))
    prediction = np.array([[0.0, -np.inf, 500.0], [np.inf, 40.0, 20.0]], np.float32)
    found = evaluate_sample(PROTOCOLS["kitti-metric"], prediction, sample)
    assert found["abs_rel"] == pytest.approx((2 * (40 - 1e-3) + 2 * 40 + 0 + 20) / 40 / 6)
    assert found["delta1"] == pytest.approx(1 / 6)
    assert found["rmse_log"] == pytest.approx(math.sqrt((2 * math.log(40 / 1e-3) ** 2 + 3 * math.log(2) ** 2) / 6))


def test_metric_is_not_aligned():
    sample = depth_sample()
    found = evaluate_sample(PROTOCOLS["nyu-metric"], 1.1 * np.where(sample.valid, sample.depth, 1), sample)
    assert found["abs_rel"] == pytest.approx(0.1, rel=1e-5)
    assert found["silog"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("shape", [(48, 64), (12, 16)])
def test_metric_has_no_number_for_what_is_none(shape):
    found = evaluate_sample(PROTOCOLS["nyu-metric"], np.full(shape, np.nan), depth_sample())
    assert (found["abs_rel"], found["delta1"]) == (np.inf, 0.0)


def test_metric_enlarges_as_the_original_tool_does():
    sample, small = depth_sample(), np.random.default_rng(0).uniform(1, 9, (12, 16)).astype(np.float32)
    large = F.interpolate(torch.tensor(small)[None, None], (48, 64), mode="bicubic", align_corners=False)[0, 0].numpy()
    found, expected = (evaluate_sample(PROTOCOLS["nyu-metric"], values, sample) for values in (small, large))
    assert found == pytest.approx(expected, rel=1e-5)


# --- order, labels ----------------------------------------------------------------------------------------------------


def test_ordinal_looks_at_the_images_own_pixels():
    """A map of one row and two columns, far (small) on the left: enlarged, left stays behind right."""
    pairs = (OrdinalPair(far=(5, 0), near=(5, 63)), OrdinalPair(far=(5, 63), near=(5, 0)))
    sample = Sample("x", np.zeros((48, 64, 3), np.uint8), np.ones((48, 64), bool), pairs=pairs)
    prediction = np.array([[1.0, 2.0]])
    assert evaluate_sample(PROTOCOLS["diw"], prediction, sample) == {"whdr": 0.5}
    assert evaluate_sample(PROTOCOLS["diw"], prediction, replace(sample, pairs=pairs[:1])) == {"whdr": 0.0}
    assert evaluate_sample(PROTOCOLS["diw"], -prediction, replace(sample, pairs=pairs[:1])) == {"whdr": 1.0}


def test_segmentation_of_logits_and_of_labels():
    labels = np.random.default_rng(0).integers(0, 151, (20, 30))
    logits = np.eye(151, dtype=np.float32)[labels].transpose(2, 0, 1)[1:]
    for prediction in (logits, np.maximum(labels, 1)):
        counts = evaluate_sample(PROTOCOLS["ade20k"], prediction, segmented(labels))
        assert (counts.pixel_accuracy, counts.mean_iou) == (1.0, 1.0)
    wrong = evaluate_sample(PROTOCOLS["ade20k"], np.roll(logits, 1, axis=0), segmented(labels))
    assert wrong.pixel_accuracy == 0.0


def test_segmentation_enlarges():
    labels = np.repeat(np.array([[1, 2]]), 20, axis=1).repeat(30, axis=0)
    logits = np.array([[[5.0, 0.0]], [[0.0, 5.0]]])
    protocol = replace(PROTOCOLS["ade20k"], classes=2)
    for prediction in (logits, np.array([[1, 2]])):
        assert evaluate_sample(protocol, prediction, segmented(labels)).pixel_accuracy == 1.0


@pytest.mark.parametrize(
    ("name", "sample", "message"),
    [
        ("nyu", segmented(np.ones((4, 5))), "has no depth"),
        ("nyu-metric", segmented(np.ones((4, 5))), "has no depth"),
        ("diw", depth_sample(), "has no pairs of points"),
        ("ade20k", depth_sample(), "has no labels"),
    ],
)
def test_a_sample_of_another_task_is_refused(name, sample, message):
    with pytest.raises(ValueError, match=message):
        evaluate_sample(PROTOCOLS[name], np.ones((4, 5)), sample)


# --- resizing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [(12, 20), (1, 1), (37, 5)])
@pytest.mark.parametrize("target", [(48, 64), (7, 3), (12, 20), (1, 1)])
def test_bilinear_is_pytorchs(source, target):
    values = np.random.default_rng(0).normal(0, 1000, source)
    expected, corners = (
        F.interpolate(torch.tensor(values)[None, None], target, mode="bilinear", align_corners=rule)[0, 0].numpy()
        for rule in (False, True)
    )
    found = resize_bilinear(values, Size(*target))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6 * 4000
    if source == (12, 20) and target == (48, 64):
        assert np.abs(found - corners).max() > 10
