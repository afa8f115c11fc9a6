"""Sizes and batches become narrow profiles; a shape gets its narrowest; one that fits none is refused."""

import pytest

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import Profile, SizeRange, check_ranges, choose_profile, parse_ranges
from dpt_deploy.core.size import Size
from dpt_deploy.engine.profiles import MOST, lay_out_profiles

pytestmark = pytest.mark.fast


def laid_out(text, batch=1, **options):
    return lay_out_profiles(parse_ranges(text), batch, **options)


def test_each_size_has_a_profile_and_larger_batches_one_of_their_own():
    assert [str(profile) for profile in laid_out("384,384x672", 8)] == [
        "384 batch 1",
        "384 batch 2..8",
        "384x672 batch 1",
        "384x672 batch 2..8",
    ]


def test_profiles_are_tuned_for_their_largest_shape():
    (profile,) = laid_out("256x320..512x640")
    assert profile == Profile((1, 256, 320), (1, 512, 640), (1, 512, 640))
    assert str(profile) == "256x320..512x640 batch 1"


def test_every_shape_asked_for_is_taken_by_exactly_one_profile_of_its_size():
    profiles = laid_out("384,512", 4)
    for side in (384, 512):
        for batch in (1, 2, 3, 4):
            assert sum(profile.takes(batch, Size(side, side)) for profile in profiles) == 1
    assert not any(profile.takes(5, Size(384, 384)) or profile.takes(1, Size(384, 512)) for profile in profiles)


def test_a_static_graph_has_one_profile_whatever_the_batch():
    assert laid_out("384x672", 8, static=True) == (Profile((1, 384, 672), (1, 384, 672), (1, 384, 672)),)


def test_duplicates_are_dropped():
    assert len(laid_out("384, 384,384x384,384..384")) == 1


def test_the_narrowest_profile_is_chosen():
    profiles = laid_out("256..1024,384")
    assert choose_profile(profiles, 1, Size(384, 384)) == 1
    assert choose_profile(profiles, 1, Size(416, 384)) == 0


def test_a_shape_outside_every_profile_names_them():
    with pytest.raises(
        UsageError, match=r"no batch of 9 at 384; its profiles: 384 batch 1; 384 batch 2\.\.8"
    ) as caught:
        choose_profile(laid_out("384", 8), 9, Size(384, 384))
    assert "dpt-deploy build" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("512..384", "runs backwards"),
        ("384x512..512x384", "runs backwards"),
        ("384...512", "not understood"),
        ("384..", "not understood"),
        ("380..512", "not a multiple of 32"),
    ],
)
def test_a_range_that_is_none_is_refused(text, match):
    with pytest.raises(UsageError, match=match):
        parse_ranges(text)


def test_both_ends_of_a_range_are_held_to_the_stride():
    ranges = parse_ranges("384..510", stride=1)
    with pytest.raises(UsageError, match="510 is not a multiple of 32"):
        check_ranges(ranges, stride=32)


def test_too_many_profiles_are_refused_with_the_way_on():
    sizes = tuple(SizeRange(Size(32 * n, 32), Size(32 * n, 32)) for n in range(1, MOST + 2))
    with pytest.raises(UsageError, match=f"at most {MOST}") as caught:
        lay_out_profiles(sizes, 1)
    assert "range" in caught.value.hint
    assert len(lay_out_profiles(sizes[:MOST], 1)) == MOST


def test_no_size_is_refused():
    with pytest.raises(UsageError, match="no size"):
        lay_out_profiles((), 1)
