"""Every corruption: deterministic, in severity order, and severity 0 is the image itself; errors are clear."""

from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.datasets.corruptions.registry import (
    CONTROL,
    CORRUPTIONS,
    SEVERITIES,
    check_severities,
    corrupt,
    find_corruptions,
)
from dpt_deploy.scenes.render import render_scene

SIDE = 224  # lengths are stated for this size; in smaller images some severities round to the same
SCENE = render_scene(1_000_001, height=SIDE, width=SIDE)
DEPTH = np.where(np.isfinite(SCENE.depth), SCENE.depth, 0).astype(np.float32)
ALL = [*CORRUPTIONS.values(), CONTROL]
# In the original, too, a larger severity of these is not a larger change of every image.
UNORDERED = {"snow", "frost", "fog", "pixelate"}


def damaged(corruption, severity, **changes):
    return corrupt(SCENE.image, corruption, severity, **{"depth": DEPTH, "name": "a", **changes})


def distances(corruption):
    """Mean absolute change at each severity, in levels."""
    return [float(np.abs(damaged(corruption, each).astype(float) - SCENE.image).mean()) for each in SEVERITIES]


def ordered(corruption):
    found = distances(corruption)
    if corruption.name in UNORDERED:
        return 0 < found[0] < found[-1]
    return found[0] > 0 and all(np.diff(found) > 0)


@pytest.mark.parametrize("corruption", ALL, ids=lambda each: each.name)
def test_a_larger_severity_is_a_larger_change(corruption):
    assert ordered(corruption)


@pytest.mark.parametrize("name", ["gaussian-noise", "defocus-blur", "fog-3d", "snow", "frost", "elastic-transform"])
def test_the_order_check_notices_reversed_severities(name):
    found = CORRUPTIONS[name]
    planted = replace(found, damage=lambda clean, rng, severity: found.damage(clean, rng, 6 - severity))
    assert not ordered(planted)


@pytest.mark.parametrize("corruption", ALL, ids=lambda each: each.name)
def test_severity_0_is_the_image_itself_and_the_rest_is_bytes_of_its_shape(corruption):
    assert np.array_equal(damaged(corruption, 0), SCENE.image)
    found = damaged(corruption, 3)
    assert (found.dtype, found.shape) == (np.uint8, SCENE.image.shape)


@pytest.mark.parametrize(
    "name", ["gaussian-noise", "glass-blur", "snow", "frost", "fog", "elastic-transform", "xy-motion"]
)
def test_the_seed_and_the_name_of_the_image_decide(name):
    corruption, first = CORRUPTIONS[name], damaged(CORRUPTIONS[name], 3)
    assert np.array_equal(first, damaged(corruption, 3))
    assert not np.array_equal(first, damaged(corruption, 3, seed=1))
    assert not np.array_equal(first, damaged(corruption, 3, name="b"))


def test_the_input_stays_as_it_is():
    before = SCENE.image.copy()
    for corruption in ALL:
        damaged(corruption, 5)
    assert np.array_equal(SCENE.image, before)


def test_names_groups_and_all():
    assert [each.name for each in find_corruptions(("fog", "3-d", "fog"))] == [
        "fog",
        *(each.name for each in CORRUPTIONS.values() if each.needs_depth),
    ]
    assert len(find_corruptions(("all",))) == len(CORRUPTIONS)


def test_an_unknown_corruption_is_named():
    with pytest.raises(UsageError, match="'rain' is unknown"):
        find_corruptions(("fog", "rain"))


@pytest.mark.parametrize("severities", [(0,), (6,), (1, -1), ()])
def test_severities_outside_1_to_5_are_refused(severities):
    with pytest.raises(UsageError, match="from 1 to 5"):
        check_severities(severities)
    assert check_severities((3, 1, 3)) == (1, 3)


@pytest.mark.parametrize("depth", [None, np.zeros((SIDE, SIDE), np.float32)])
def test_depth_that_is_missing_is_a_clear_error(depth):
    with pytest.raises(BadFileError, match="needs dense depth"):
        damaged(CORRUPTIONS["fog-3d"], 1, depth=depth)
    assert damaged(CORRUPTIONS["fog"], 1, depth=depth).any()
