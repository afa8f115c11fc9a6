"""Depth of the sky: quantile and mask against torch's own, and planted faults."""

from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.imaging.sky import filled_sky, quantile

pytestmark = pytest.mark.fast

RULE = load_recipe("da3-mono").model.sky
RNG = np.random.default_rng(0)
DEPTH = RNG.random((37, 49), np.float32) * 40
SKY = RNG.random((37, 49), np.float32)


def test_the_sky_gets_the_depth_of_the_farthest_ground():
    found = filled_sky(DEPTH, SKY, RULE)
    ground = SKY < 0.3
    assert np.array_equal(found[ground], DEPTH[ground])
    (far,) = set(found[~ground].tolist())
    assert far == pytest.approx(float(np.quantile(DEPTH[ground].astype(np.float64), 0.99)), rel=1e-7)


def test_faults_of_the_rule_are_seen():
    right = filled_sky(DEPTH, SKY, RULE)
    for wrong in ({"threshold": 0.5}, {"quantile": 0.98}, {"pixels": DEPTH.size}):
        assert not np.array_equal(filled_sky(DEPTH, SKY, replace(RULE, **wrong)), right)
    everywhere = np.float32(np.quantile(DEPTH, 0.99))
    assert everywhere not in set(right[SKY >= 0.3].tolist())


@pytest.mark.parametrize("count", [0, 10, 11])
def test_a_few_pixels_are_no_sky_and_no_ground(count):
    few = np.zeros_like(SKY)
    few.flat[:count] = 1
    for sky in (few, 1 - few):
        assert (filled_sky(DEPTH, sky, RULE) is DEPTH) == (count <= 10)


@pytest.mark.parametrize("size", [1, 2, 100, 101, 1814])
def test_the_quantile_is_that_of_numpy_in_double_precision(size):
    values = RNG.standard_normal(size).astype(np.float32)
    for share in (0.0, 0.5, 0.99, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values.astype(np.float64), share), abs=1e-7)
