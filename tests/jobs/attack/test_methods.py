"""Attacks on losses whose answer is known, and the relations between the methods."""

import numpy as np
import pytest
import torch

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.attack.methods import AttackSteps, attacked
from dpt_deploy.jobs.attack.objectives import as_tensor

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 10, 3)).astype(np.uint8)
WEIGHTS = torch.from_numpy(RNG.standard_normal((1, 3, 12, 10)).astype(np.float32))
METHODS = ("noise", "fgsm", "pgd", "mi-fgsm")


def linear(image):
    return (WEIGHTS * image).sum()


def curved(image):
    """A loss with an inner maximum along every value."""
    return -(WEIGHTS.abs() * (image - 0.5 - 0.2 * WEIGHTS).square()).sum()


def attack(method, levels=4.0, loss=linear, **how):
    return attacked(IMAGE, loss, method, levels, AttackSteps(**how), name="a")


def value(loss, image):
    return float(loss(as_tensor(image)))


@pytest.mark.parametrize("method", ["fgsm", "pgd", "mi-fgsm"])
def test_a_linear_loss_is_raised_to_the_corner_of_the_bound(method):
    signs = np.sign(WEIGHTS[0].permute(1, 2, 0).numpy())
    assert np.array_equal(attack(method), np.clip(IMAGE + 4 * signs, 0, 255))


@pytest.mark.parametrize("method", ["fgsm", "pgd", "mi-fgsm"])
def test_a_flipped_sign_lowers_the_loss(method):
    before = value(curved, IMAGE)
    assert value(curved, attack(method, 8, curved)) > before
    assert value(curved, attack(method, 8, lambda image: -curved(image))) < before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", [1.0, 3.5, 16.0])
def test_the_bound_holds_in_bytes(method, levels):
    found = attack(method, levels, curved, random_start=True)
    assert found.dtype == np.uint8
    assert 0 < np.abs(found.astype(int) - IMAGE).max() <= levels


@pytest.mark.parametrize("method", METHODS)
def test_without_strength_the_image_is_itself(method):
    assert attack(method, 0.0) is IMAGE


@pytest.mark.parametrize("loss", [linear, curved])
def test_fgsm_is_pgd_with_one_step(loss):
    one = attack("fgsm", 4, loss)
    assert np.array_equal(one, attack("pgd", 4, loss, steps=1))
    assert np.array_equal(one, attack("mi-fgsm", 4, loss, steps=1))
    assert not np.array_equal(attack("pgd", 60, curved, steps=10), attack("fgsm", 60, curved))


def test_more_steps_reach_a_higher_loss_and_noise_a_lower_one():
    noise, one, ten = (value(curved, attack(each, 60, curved, steps=10)) for each in ("noise", "fgsm", "pgd"))
    assert noise < one < ten


def test_momentum_follows_its_recurrence():
    image, velocity, bound = as_tensor(IMAGE), torch.zeros_like(WEIGHTS), 8 / 255
    start = image.clone()
    for _ in range(4):
        slope = -2 * WEIGHTS.abs() * (image - 0.5 - 0.2 * WEIGHTS)
        velocity = velocity + slope / slope.abs().mean()
        image = (image + bound / 4 * velocity.sign()).clamp(0, 1)
        image = torch.minimum(torch.maximum(image, start - bound), start + bound)
    expected = 255 * image[0].permute(1, 2, 0).numpy()
    assert np.abs(attack("mi-fgsm", 8, curved, steps=4) - expected).max() < 1.01  # rounded towards the image


def test_the_seed_and_the_name_decide():
    assert np.array_equal(attack("noise"), attack("noise"))
    assert not np.array_equal(attack("noise"), attack("noise", seed=1))
    assert not np.array_equal(attack("noise"), attacked(IMAGE, linear, "noise", 4, AttackSteps(), name="b"))
    starts = [attack("pgd", 30, curved, random_start=True, steps=2, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


def test_an_unknown_method_is_named():
    with pytest.raises(UsageError, match="'deepfool' is unknown"):
        attack("deepfool")
