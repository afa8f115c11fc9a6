"""LeViT as data: its grids, its one size, and numbers that describe no network."""

from dataclasses import replace

import pytest

from dpt_deploy.core.encoders import LeViTSpec
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size

pytestmark = pytest.mark.fast

SPEC = LeViTSpec()


def test_grids_are_halved_and_rounded_up():
    assert SPEC.grids == (14, 7, 4)
    assert replace(SPEC, side=96).grids == (6, 3, 2)
    assert SPEC.strides == (16, 32, 64)


def test_halves_of_blocks_are_counted_as_the_published_code_does():
    assert SPEC.blocks == 28
    assert [SPEC.map_of(block) for block in (3, 7, 8, 11, 18, 21)] == [
        (16, 384),
        (16, 384),
        (32, 512),
        (32, 512),
        (64, 768),
        (64, 768),
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"stage_heads": (6, 9)}, "another number than three"),
        ({"side": 208}, "images of 208 pixels"),
        ({"stage_channels": (380, 512, 768)}, "380 channels"),
        ({"stage_channels": (8, 512, 768)}, "keys of 32"),
    ],
)
def test_what_no_network_can_be_built_from(change, problem):
    assert not list(SPEC.problems())
    assert any(problem in text for text, _hint in replace(SPEC, **change).problems())


def test_the_recipe_takes_one_size(tmp_path):
    model = load_recipe("levit-224").model
    model.check_size(Size(224, 224))
    with pytest.raises(UsageError, match="takes images of 224 pixels only; 256 was asked for"):
        model.check_size(Size(256, 256))
    (tmp_path / "wide.toml").write_text('base = "levit-224"\ndescription = "x"\n[image]\nwidth = 256\n')
    with pytest.raises(BadFileError, match="images of 224x256 pixels for a network that takes 224 only"):
        load_recipe(str(tmp_path / "wide.toml"))
