"""Strengths are parsed to levels, and stored bytes keep the bound."""

import numpy as np
import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.jobs.attack.strength import check_strengths, parse_strengths, to_bytes

pytestmark = pytest.mark.fast

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)


def largest_change(found):
    return int(np.abs(found.astype(int) - IMAGE).max())


@pytest.mark.parametrize(
    ("text", "levels"), [("8/255, 2/255,8/255", (2.0, 8.0)), ("0.5/2", (63.75,)), ("0", (0.0,)), ("1/255", (1.0,))]
)
def test_strengths_are_parsed_to_levels(text, levels):
    assert parse_strengths(text) == levels


@pytest.mark.parametrize("text", ["65/255", "1", "-1/255", "0.5/255", "nan", "inf", "1/0", "a", "1/b", "4"])
def test_strengths_out_of_range_are_refused(text):
    with pytest.raises(UsageError, match="expected 0, or 1 to 64 levels"):
        parse_strengths(text)


def test_an_empty_list_is_refused():
    with pytest.raises(UsageError, match="--eps is empty"):
        parse_strengths(" , ")
    with pytest.raises(UsageError, match="100 levels"):
        check_strengths((2, 100))


@pytest.mark.parametrize("levels", [1, 2.5, 8, 63.9])
def test_rounding_keeps_the_bound_and_uses_it(levels):
    shift = RNG.choice([-1, 1], IMAGE.shape) * levels / 255
    found = to_bytes(np.clip(IMAGE / 255 + shift, 0, 1).astype(np.float32), IMAGE, levels)
    assert largest_change(found) == int(levels)
    nearest = np.rint(np.clip(IMAGE / 255 + shift, 0, 1) * 255)
    assert (largest_change(nearest) <= levels) == (levels % 1 < 0.5)  # the planted fault: rounding to the nearest byte


def test_a_change_beyond_the_bound_is_cut():
    assert largest_change(to_bytes(np.ones(IMAGE.shape), IMAGE, 3)) == 3


def test_no_change_is_no_change():
    assert np.array_equal(to_bytes(IMAGE / np.float32(255), IMAGE, 8), IMAGE)
