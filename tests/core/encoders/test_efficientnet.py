"""EfficientNet-Lite as data."""

from dataclasses import replace

import pytest

from dpt_deploy.core.encoders import EfficientNetSpec

pytestmark = pytest.mark.fast

SPEC = EfficientNetSpec()


def test_the_taps_are_the_last_stages_of_each_resolution():
    assert SPEC.stages == (32, 48, 136, 384)


def test_the_defaults_are_those_of_lite3():
    """Lite0, times 1.2 in width (to a multiple of 8, within a tenth) and 1.4 in depth, but for the ends."""
    assert SPEC.stage_channels == (24, 32, 48, 96, 136, 232, 384)
    assert SPEC.stage_blocks == (1, 3, 3, 5, 5, 6, 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stage_blocks": (1, 3, 3)}, "3 stage_blocks and 7 stage_channels"),
        ({"stage_blocks": (1, 3, 3, 1000, 5, 6, 1)}, "1019 blocks"),
    ],
)
def test_what_no_network_can_be_built_from(change, problem):
    assert not list(SPEC.problems())
    assert any(problem in text for text, _hint in replace(SPEC, **change).problems())
