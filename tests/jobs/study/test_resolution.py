"""Figure 4's statistics: numbers worked out by hand, an independent bootstrap, and effects that were planted."""

from dataclasses import replace

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError, ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study import resolution
from dpt_deploy.jobs.study.resolution import Scores, analyse, default_sizes, paper_range, ratio, verdict
from dpt_deploy.measure.bootstrap import Estimate, image_weights, mean_of

pytestmark = pytest.mark.fast

TRAINED = Size(192, 192)
SIZES = tuple(Size(side, side) for side in (192, 256, 320, 512))


def scores(values, *, plane=None, candidates=("vit", "conv"), sizes=SIZES):
    values = np.asarray(values, float)
    images = tuple(f"image-{index}" for index in range(values.shape[2]))
    plane = np.ones(len(images)) if plane is None else np.asarray(plane, float)
    return Scores(tuple(candidates), sizes, TRAINED, images, values, plane)


def planted(losses, *, images=60, noise=0.03, seed=0):
    """Errors of images of very different difficulty; each subject's mean loss at the sizes is what ``losses`` says."""
    rng = np.random.default_rng(seed)
    difficulty = rng.lognormal(-2, 0.6, images)
    factors = 1 + np.asarray(losses, float)[:, :, None] / 100 + noise * rng.standard_normal((len(losses), 4, images))
    factors[:, 0] = 1
    return scores(difficulty * factors)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_loss_is_the_ratio_of_means_not_the_mean_of_ratios():
    two = scores([[[1.0, 3.0], [1.5, 3.5], [2.0, 4.0], [1.0, 7.0]]] * 2)
    curve = analyse(two, []).curves[0]
    assert [estimate.value for estimate in curve.error] == [2.0, 2.5, 3.0, 4.0]
    assert [estimate.value for estimate in curve.loss] == [0.0, 25.0, 50.0, 100.0]
    assert curve.in_range.value == 37.5  # 256 and 320 of 192; 512 lies past 640 of 384
    assert curve.beyond.value == 100.0


def test_the_share_of_the_plane_is_of_the_mean_plane():
    found = analyse(scores([[[1.0, 3.0]] * 4] * 2, plane=[2.0, 6.0]), [])
    assert found.plane.value == 4.0
    assert [estimate.value for estimate in found.curves[0].share_of_plane] == [0.5] * 4


def test_a_comparison_is_rival_less_candidate_in_points():
    values = [[[1.0, 1.0], [1.1, 1.1], [1.2, 1.2], [1.3, 1.3]], [[2.0, 2.0], [2.6, 2.6], [2.8, 2.8], [4.0, 4.0]]]
    (found,) = analyse(scores(values), [("vit", "conv")]).comparisons
    assert [round(each.value, 9) for each in found.by_size] == [0, 20, 20, 70]
    assert found.in_range.value == pytest.approx(20)
    assert found.beyond.value == pytest.approx(70)
    assert (found.in_range.low, found.in_range.high) == (pytest.approx(20), pytest.approx(20))


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.1, 3), "holds"), ((-3, -0.1), "reversed"), ((-1, 2), "not distinguishable"), ((0, 2), "not distinguishable")],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(interval, expected):
    assert verdict(Estimate(1.0, *interval)) == expected


# --- against an independent bootstrap ---------------------------------------------------------------------------------


def test_intervals_agree_with_a_bootstrap_written_the_plain_way():
    made = planted([[0, 5, 12, 30], [0, 15, 40, 90]], images=40)
    rng = np.random.default_rng(99)
    losses, differences = [], []
    for _ in range(4000):
        chosen = rng.integers(0, 40, 40)
        means = made.values[:, :, chosen].mean(axis=2)
        loss = 100 * (means / means[:, :1] - 1)
        losses.append(loss[1, 2])
        differences.append((loss[1] - loss[0])[1:3].mean())
    found = analyse(made, [("vit", "conv")])
    for estimate, draws in ((found.curves[1].loss[2], losses), (found.comparisons[0].in_range, differences)):
        low, high = np.percentile(draws, (2.5, 97.5))
        assert abs(estimate.low - low) < 0.1 * (high - low)
        assert abs(estimate.high - high) < 0.1 * (high - low)


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for index in range(200):
        found = mean_of(rng.exponential(size=60), seed=index, resamples=400)
        inside += found.low <= 1.0 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_the_same_seed_gives_the_same_numbers_and_another_only_moves_the_ends():
    made = planted([[0, 5, 12, 30], [0, 15, 40, 90]])
    first, again, other = (analyse(made, [], seed=seed).curves[0].loss[2] for seed in (0, 0, 1))
    assert first == again
    assert first.value == other.value
    assert first.low != other.low


# --- kinds ------------------------------------------------------------------------------------------------------------

KINDS = {"easy": (24, 0.1), "hard": (8, 0.8)}  # how many images, and how large their errors are


def of_kinds(rng):
    """Kinds of images, and an error of each: kinds differ far more than images of a kind."""
    kinds = [kind for kind, (count, _) in KINDS.items() for _ in range(count)]
    return kinds, np.array([KINDS[kind][1] * rng.lognormal(0, 0.3) for kind in kinds])


def test_a_resample_keeps_the_shares_of_kinds():
    kinds, _ = of_kinds(np.random.default_rng(0))
    weights = image_weights(kinds, 0, 500)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights[:, :24].sum(axis=1) == pytest.approx(24 / 32)
    assert np.ptp(image_weights(len(kinds), 0, 500)[:, :24].sum(axis=1)) > 0.1  # as it is where kinds are not known
    assert (weights[0] == 1 / 32).all()


def test_the_mean_of_stratified_images_varies_as_theory_says():
    kinds, values = of_kinds(np.random.default_rng(1))
    means = image_weights(kinds, 0, 20_000)[1:] @ values
    each = [values[:24], values[24:]]
    expected = sum((len(part) / 32) ** 2 * part.var(ddof=1) / len(part) for part in each)
    assert means.var() == pytest.approx(expected, rel=0.05)


def test_intervals_of_kinds_cover_the_truth_about_as_often_as_they_say_and_are_narrower():
    rng, truth = np.random.default_rng(2), sum(count * size for count, size in KINDS.values()) / 32 * np.exp(0.045)
    inside, widths = 0, []
    for index in range(200):
        kinds, values = of_kinds(rng)
        kept, blind = (Estimate.of(image_weights(what, index, 400) @ values) for what in (kinds, len(kinds)))
        inside += kept.low <= truth <= kept.high
        widths.append((kept.high - kept.low) / (blind.high - blind.low))
    assert 0.88 <= inside / 200 <= 0.99
    assert np.mean(widths) < 0.6


@pytest.mark.parametrize("kinds", [["a"] * 5 + ["b"], ["a"] * 5 + ["b"] * 3 + ["c"] * 2, list("abcd")])
def test_kinds_of_too_few_images_to_tell_their_spread_do_not_narrow_an_interval(kinds):
    weights = image_weights(kinds, 0, 500)
    assert (weights[1:].std(axis=0) > 0.5 / len(kinds)).all()


@pytest.mark.parametrize(("few", "kept"), [(3, False), (4, True)])
def test_shares_are_kept_of_kinds_with_four_images(few, kept):
    kinds = ["a"] * 8 + ["b"] * few
    share = image_weights(kinds, 0, 500)[:, 8:].sum(axis=1)
    assert (np.ptp(share) < 1e-9) == kept


def test_a_study_says_whether_shares_were_kept():
    made = planted([[0, 5, 12, 30], [0, 15, 40, 90]])
    images = len(made.images)
    assert not made.stratified
    assert not replace(made, kinds=("a",) * images).stratified
    assert not replace(made, kinds=("a",) * (images - 2) + ("b", "c")).stratified
    assert replace(made, kinds=("a",) * (images - 4) + ("b",) * 4).stratified


def test_kinds_reach_every_interval_of_a_study():
    made = planted([[0, 5, 12, 30], [0, 15, 40, 90]])
    hard = made.values[0, 0] > np.median(made.values[0, 0])
    known = replace(made, kinds=tuple(np.where(hard, "hard", "easy")))
    blind, kept = (analyse(each, [("vit", "conv")]) for each in (made, known))
    assert kept.curves[0].error[0].high - kept.curves[0].error[0].low < 0.8 * (
        blind.curves[0].error[0].high - blind.curves[0].error[0].low
    )
    assert kept.curves[0].loss[2].value == blind.curves[0].loss[2].value


# --- pairing ----------------------------------------------------------------------------------------------------------


def test_what_is_hard_about_an_image_cancels_in_a_difference():
    made = planted([[0, 5, 12, 30], [0, 9, 16, 40]], noise=0.01)
    curve, (difference,) = analyse(made, []).curves[0], analyse(made, [("vit", "conv")]).comparisons
    assert curve.error[2].high - curve.error[2].low > 0.03  # of a mean near 0.17: images differ a lot
    assert difference.in_range.high - difference.in_range.low < 1.5
    assert difference.verdict == "holds"


def test_unpaired_resamples_would_be_noticed():
    made = planted([[0, 5, 12, 30], [0, 5, 12, 30]], noise=0.0)
    (paired,) = analyse(made, [("vit", "conv")]).comparisons
    assert paired.in_range.low == paired.in_range.high == 0.0
    apart = [analyse(made, [], seed=seed).curves[0].error[2] for seed in (0, 1)]
    assert apart[0] != apart[1]


# --- planted effects --------------------------------------------------------------------------------------------------


def test_a_planted_degradation_is_found():
    (found,) = analyse(planted([[0, 4, 8, 20], [0, 10, 20, 50]]), [("vit", "conv")]).comparisons
    assert found.verdict == "holds"
    assert found.in_range.low <= 9 <= found.in_range.high


def test_the_reverse_is_reported_as_the_reverse():
    (found,) = analyse(planted([[0, 10, 20, 50], [0, 4, 8, 20]]), [("vit", "conv")]).comparisons
    assert found.verdict == "reversed"


def test_curves_that_are_the_same_can_seldom_be_distinguished():
    made = [planted([[0, 8, 16, 40]] * 2, seed=seed) for seed in range(60)]
    found = [analyse(each, [("vit", "conv")], resamples=400).comparisons[0].verdict for each in made]
    assert found.count("not distinguishable") >= 51  # 95 in 100 if intervals were perfect, 92 as they are


def test_identical_scores_are_not_distinguishable():
    values = planted([[0, 8, 16, 40]] * 2).values
    (found,) = analyse(scores([values[0], values[0]]), [("vit", "conv")]).comparisons
    assert found.verdict == "not distinguishable"


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_control_that_loses_more_is_noticed():
    found = analyse(planted([[0, 4, 8, 20], [0, 8, 14, 40]]), [], ("conv", "vit")).control
    assert found.noticed
    assert found.at_training == 0.0
    assert found.overall.value == pytest.approx((4 + 6 + 20) / 3, abs=2)


def test_a_control_that_loses_no_more_is_not_noticed():
    assert not analyse(planted([[0, 8, 16, 40]] * 2), [], ("conv", "vit")).control.noticed


def test_a_control_that_loses_less_is_not_noticed():
    assert not analyse(planted([[0, 8, 16, 40], [0, 2, 4, 10]]), [], ("conv", "vit")).control.noticed


def test_a_control_that_differs_at_the_training_size_says_by_how_much():
    values = planted([[0, 4, 8, 20], [0, 8, 14, 40]]).values
    values[1, 0, 7] += 0.25
    assert analyse(scores(values), [], ("conv", "vit")).control.at_training == pytest.approx(0.25)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_default_sizes_are_the_papers_ratios_and_more():
    sides = [size.height for size in default_sizes(TRAINED, 32)]
    assert sides == [192, 224, 256, 288, 320, 384, 448, 512]
    assert [size.height for size in default_sizes(Size(384, 384), 32)][:5] == [384, 448, 512, 576, 640]


def test_default_sizes_keep_shape_stride_and_order():
    sizes = default_sizes(Size(352, 1216), 32)
    assert sizes[0] == Size(352, 1216)
    assert list(sizes) == sorted(set(sizes))
    assert all(side % 32 == 0 for size in sizes for side in (size.height, size.width))


def test_the_papers_range_ends_at_640_of_384():
    sizes = [Size(side, side) for side in (320, 384, 416, 640, 672)]
    assert paper_range(sizes, Size(384, 384)) == [2, 3]
    assert paper_range([TRAINED, Size(512, 512)], TRAINED) == [1]
    assert ratio(Size(640, 640), Size(384, 384)) == pytest.approx(resolution.PAPER_RATIO)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_one_image_is_no_study():
    with pytest.raises(BadFileError, match="1 image"):
        scores(np.ones((2, 4, 1)))


def test_a_candidate_without_any_error_has_no_relative_loss():
    values = np.ones((2, 4, 3))
    values[1, 0] = 0
    with pytest.raises(ParityError, match="conv makes no error at 192"):
        scores(values)


def test_scores_of_another_shape_are_a_defect():
    with pytest.raises(ValueError, match="scores of shape"):
        scores(np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match="scores of shape"):
        replace(scores(np.ones((2, 4, 5))), kinds=("room",))
