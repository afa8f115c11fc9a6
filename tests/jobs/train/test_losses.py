"""The training losses against the papers' equations, written out literally in NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from dpt_deploy.jobs.train import losses
from dpt_deploy.jobs.train.losses import (
    ALPHA,
    AUXILIARY,
    SCALES,
    TRIM,
    depth_loss,
    gradient_loss,
    robust_normalise,
    segmentation_loss,
    trimmed_loss,
)

SHAPE = (3, 17, 22)  # odd, so that the levels of the gradient loss end at a border


def example(seed=0, dtype=torch.float64, valid_share=0.7):
    """Prediction, target and mask; where nothing is known the target is no number."""
    rng = np.random.default_rng(seed)
    prediction, target = rng.gamma(2.0, 3.0, (2, *SHAPE))
    valid = rng.random(SHAPE) < valid_share
    target[~valid] = np.nan
    return torch.from_numpy(prediction).to(dtype), torch.from_numpy(target).to(dtype), torch.from_numpy(valid)


# --- the equations, one pixel at a time -------------------------------------------------------------------------------


def eq5_6(values, valid):
    """Median and mean absolute deviation from it, over M valid pixels."""
    known = sorted(float(v) for v, m in zip(values.ravel(), valid.ravel(), strict=True) if m)
    median = known[(len(known) - 1) // 2]
    return median, sum(abs(v - median) for v in known) / len(known)


def normalised(values, valid):
    t, s = eq5_6(values, valid)
    return (values - t) / s


def eq7(prediction, target, valid):
    """1 / 2M times the sum of the U_m = 0.8 M smallest absolute residuals."""
    residuals = sorted(abs(prediction - target)[valid].tolist())
    m = len(residuals)
    return sum(r for j, r in enumerate(residuals, 1) if j <= np.ceil(0.8 * m)) / (2 * m)


def eq11(residual, valid):
    """Sum over levels of the mean of |dx R| + |dy R|, a level having every second pixel of the one before."""
    total = 0.0
    for _ in range(4):
        height, width = residual.shape
        level = 0.0
        for y in range(height):
            for x in range(width):
                if x + 1 < width and valid[y, x] and valid[y, x + 1]:
                    level += abs(residual[y, x + 1] - residual[y, x])
                if y + 1 < height and valid[y, x] and valid[y + 1, x]:
                    level += abs(residual[y + 1, x] - residual[y, x])
        total += level / max(1, valid.sum())
        residual, valid = residual[::2, ::2], valid[::2, ::2]
    return total


def eq12(prediction, target, valid):
    """Mean over images of L_ssi + 0.5 L_reg."""
    losses = []
    for d, g, m in zip(prediction.numpy(), target.numpy(), valid.numpy(), strict=True):
        ours, theirs = normalised(d, m), normalised(np.where(m, g, 0), m)
        losses.append(eq7(ours, theirs, m) + 0.5 * eq11(np.where(m, ours - theirs, 0), m))
    return float(np.mean(losses))


def test_constants_are_those_of_the_papers():
    assert (TRIM, SCALES, ALPHA, AUXILIARY) == (0.2, 4, 0.5, 0.2)


@pytest.mark.parametrize("seed", range(4))
def test_normalisation_is_equations_5_and_6(seed):
    values, _, valid = example(seed)
    expected = [normalised(v, m) for v, m in zip(values.numpy(), valid.numpy(), strict=True)]
    assert np.allclose(robust_normalise(values, valid), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_trimming_is_equation_7(seed):
    residual, _, valid = example(seed)
    expected = [eq7(r, 0 * r, m) for r, m in zip(residual.numpy(), valid.numpy(), strict=True)]
    assert np.allclose(trimmed_loss(residual, valid), expected, rtol=1e-12)
    assert not np.allclose(trimmed_loss(residual, valid, trim=0.1), expected, rtol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_matching_is_equation_11(seed, monkeypatch):
    residual, _, valid = example(seed)
    expected = [eq11(r, m) for r, m in zip(residual.numpy(), valid.numpy(), strict=True)]
    assert np.allclose(gradient_loss(residual, valid), expected, rtol=1e-12)
    monkeypatch.setattr(losses, "SCALES", 3)
    assert not np.allclose(gradient_loss(residual, valid), expected, rtol=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.05])
def test_the_depth_loss_is_equation_12(share, dtype, tolerance):
    prediction, target, valid = example(valid_share=share, dtype=dtype)
    loss = depth_loss(prediction, target, valid)
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(eq12(prediction.double(), target.double(), valid), rel=tolerance)


def test_a_16_bit_prediction_is_widened():
    prediction, target, valid = example(dtype=torch.float32)
    narrow = prediction.to(torch.bfloat16)
    assert torch.equal(depth_loss(narrow, target, valid), depth_loss(narrow.float(), target, valid))


# --- what the losses do not see ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "shift"), [(7.0, 0.0), (1.0, -40.0), (1e-3, 5.0), (1e5, 1e5)])
def test_scale_and_shift_of_a_prediction_do_not_count(scale, shift):
    prediction, target, valid = example()
    prediction += 3 * target.nan_to_num()
    expected = float(depth_loss(prediction, target, valid))
    assert float(depth_loss(scale * prediction + shift, target, valid)) == pytest.approx(expected, rel=1e-9)
    assert float(depth_loss(prediction, target * 3 + 1, valid)) == pytest.approx(expected, rel=1e-9)
    assert float(depth_loss(-prediction, target, valid)) > 1.1 * expected
    assert float(depth_loss(prediction**2, target, valid)) != pytest.approx(expected, rel=1e-2)


def test_the_truth_up_to_scale_and_shift_costs_nothing():
    _, target, valid = example()
    assert float(depth_loss(torch.where(valid, 3 * target + 2, 1e6), target, valid)) < 1e-12


def test_pixels_that_are_not_valid_do_not_count():
    prediction, target, valid = example()
    expected = depth_loss(prediction, target, valid)
    assert torch.equal(depth_loss(torch.where(valid, prediction, 1e9), torch.where(valid, target, -5), valid), expected)
    assert not torch.equal(depth_loss(prediction, target.nan_to_num(), torch.ones_like(valid)), expected)


def test_the_worst_fifth_of_the_residuals_does_not_count():
    rng = np.random.default_rng(0)
    residual = torch.from_numpy(rng.uniform(0, 1, (1, 10, 10)))
    order = residual.flatten().argsort()
    worst, kept = order[80:], order[:80]
    spoilt = residual.flatten().clone()
    spoilt[worst] *= 1e6
    everywhere = torch.ones(1, 10, 10, dtype=torch.bool)
    assert torch.equal(trimmed_loss(spoilt.reshape(1, 10, 10), everywhere), trimmed_loss(residual, everywhere))
    spoilt[kept[0]] = -0.9  # now another one is among the worst
    assert not torch.equal(trimmed_loss(spoilt.reshape(1, 10, 10), everywhere), trimmed_loss(residual, everywhere))


def test_gradient_matching_sees_edges_and_not_levels(monkeypatch):
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    level = torch.full((1, 16, 16), 3.0)
    step = level.clone()
    step[:, :, 8:] += 1
    assert float(gradient_loss(level, everywhere)) == 0
    assert float(gradient_loss(step, everywhere)) == pytest.approx(16 / 256 + 8 / 64 + 4 / 16 + 2 / 4)
    hole = everywhere.clone()
    hole[:, :, 7:9] = False  # an edge across what is not known
    monkeypatch.setattr(losses, "SCALES", 1)
    assert float(gradient_loss(step, hole)) == 0


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, target, valid: robust_normalise(x, valid),
        lambda x, target, valid: trimmed_loss(x, valid),
        lambda x, target, valid: gradient_loss(x, valid),
        depth_loss,
    ],
    ids=["normalise", "trimmed", "gradient", "depth"],
)
def test_gradients_are_those_of_the_loss(loss):
    rng = np.random.default_rng(2)
    prediction, target = torch.from_numpy(rng.gamma(2.0, 3.0, (2, 2, 5, 6)))
    valid = torch.from_numpy(rng.random((2, 5, 6)) < 0.8)
    assert gradcheck(lambda x: loss(x, target, valid), prediction.clone().requires_grad_())


def test_a_wrong_gradient_is_noticed():
    prediction, target, valid = example()
    wrong = prediction[:, :3, :3].clone().requires_grad_()
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(lambda x: depth_loss(x.detach() + 0 * x, target[:, :3, :3], valid[:, :3, :3]), wrong)


@pytest.mark.parametrize(
    ("prediction", "valid"),
    [
        pytest.param(torch.rand(2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool), id="nothing valid"),
        pytest.param(
            torch.rand(2, 8, 8), torch.eye(8, dtype=torch.bool).expand(2, 8, 8) & (torch.arange(8) == 3), id="one"
        ),
        pytest.param(torch.full((2, 8, 8), 5.0), torch.ones(2, 8, 8, dtype=torch.bool), id="flat"),
        pytest.param(torch.zeros(2, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool), id="zero"),
        pytest.param(1e30 * torch.rand(2, 8, 8), torch.ones(2, 8, 8, dtype=torch.bool), id="huge"),
    ],
)
def test_what_cannot_be_learned_from_does_no_harm(prediction, valid):
    prediction = prediction.clone().requires_grad_()
    loss = depth_loss(prediction, torch.rand(2, 8, 8), valid)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(prediction.grad).all()
    if not valid.any():
        assert loss.item() == 0
        assert not prediction.grad.any()


def test_an_image_without_truth_takes_nothing_from_the_others():
    prediction, target, valid = example()
    alone = depth_loss(prediction[:1], target[:1], valid[:1])
    valid[1:] = False
    assert torch.allclose(depth_loss(prediction, target, valid), alone / 3)


# --- segmentation -----------------------------------------------------------------------------------------------------


def labelled(seed=0):
    rng = np.random.default_rng(seed)
    logits, auxiliary = (torch.from_numpy(rng.normal(size=(2, 5, *size))) for size in ((8, 12), (4, 6)))
    return logits, auxiliary, torch.from_numpy(rng.integers(-1, 5, (2, 8, 12)))


def cross_entropy(logits, labels):
    """Minus the mean log of the probability of the right class, over labelled pixels."""
    losses = []
    for image, truth in zip(logits.numpy(), labels.numpy(), strict=True):
        for y, x in np.argwhere(truth >= 0):
            scores = image[:, y, x]
            losses.append(np.log(np.exp(scores).sum()) - scores[truth[y, x]])
    return np.mean(losses)


def test_the_segmentation_loss_is_cross_entropy_and_a_fifth_of_the_auxiliary_one(monkeypatch):
    logits, auxiliary, labels = labelled()
    resized = F.interpolate(auxiliary, size=(8, 12), mode="bilinear", align_corners=True)
    expected = cross_entropy(logits, labels) + 0.2 * cross_entropy(resized, labels)
    assert float(segmentation_loss(logits, auxiliary, labels)) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(losses, "AUXILIARY", 0)
    assert float(segmentation_loss(logits, auxiliary, labels)) != pytest.approx(expected, rel=1e-2)


def test_gradients_of_the_segmentation_loss():
    logits, auxiliary, labels = (values[:, ..., :3, :3] for values in labelled())
    inputs = (logits.clone().requires_grad_(), auxiliary.clone().requires_grad_())
    assert gradcheck(lambda a, b: segmentation_loss(a, b, labels), inputs)


def test_pixels_without_a_label_do_not_count():
    logits, auxiliary, labels = labelled()
    nothing = torch.full_like(labels, -1)
    logits.requires_grad_()
    loss = segmentation_loss(logits, auxiliary, nothing)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
