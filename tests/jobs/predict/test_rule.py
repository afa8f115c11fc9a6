"""The image rule of one run: what ``--height`` and ``--square`` change, and where they are refused."""

from dataclasses import replace

import pytest
from support.faults.handmade import handmade

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging.rules import network_size
from dpt_deploy.jobs.predict.rule import with_rule

pytestmark = pytest.mark.fast


@pytest.fixture
def artifact(tmp_path):
    made = handmade(tmp_path)
    image = replace(made.sidecar.image, height=384, width=384)
    return replace(made, sidecar=replace(made.sidecar, image=image))


def size_of(artifact, height=None, square=False):
    """The network size of an image of 720 x 1280 pixels."""
    found = with_rule(artifact, "ort", height=height, square=square)
    return network_size(720, 1280, found.sidecar.image, 32)


def test_sizes_are_those_of_the_original_tools(artifact):
    assert size_of(artifact) == Size(384, 672)
    assert size_of(artifact, height=512) == Size(512, 896)
    assert size_of(artifact, square=True) == Size(384, 384)
    assert size_of(artifact, height=500, square=True) == Size(512, 512)  # 15.6 strides


def test_without_a_wish_the_artefact_is_the_same(artifact):
    assert with_rule(artifact, "native", height=None, square=False, size=Size(64, 64)) is artifact


@pytest.mark.parametrize(
    ("options", "runtime", "said"),
    [
        (
            {"height": 64, "square": False, "size": Size(64, 64)},
            "ort",
            "--height changes the resize rule, which --size",
        ),
        ({"height": 64, "square": True}, "native", "--height and --square has no effect"),
    ],
)
def test_what_contradicts_it_is_refused(options, runtime, said, artifact):
    with pytest.raises(UsageError, match=said):
        with_rule(artifact, runtime, **options)


def test_a_model_of_one_size_is_refused(artifact):
    shapes = replace(artifact.sidecar.shapes, static=(64, 96))
    static = replace(artifact, sidecar=replace(artifact.sidecar, shapes=shapes))
    with pytest.raises(UsageError, match="64x96 pixels only"):
        with_rule(static, "ort", height=64, square=False)
