"""Steady maps: planted flicker leaves, moves and cuts are followed, and nothing is kept for long."""

import pickle

import numpy as np
import pytest

from dpt_deploy.imaging import steady
from dpt_deploy.imaging.steady import Steadier, fit, is_cut
from dpt_deploy.measure.flicker import flicker

pytestmark = pytest.mark.fast
FRAMES, HEIGHT, WIDTH = 12, 48, 64
GAINS = 1 + 0.2 * np.sin(2.5 * np.arange(FRAMES))


def canvas(seed):
    """A smooth random picture (HEIGHT, 2 WIDTH, 3) in bytes, and a smooth depth of that size."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (8, 16, 4)).repeat(HEIGHT // 8, 0).repeat(WIDTH // 8, 1)
    smooth = sum(np.roll(coarse, (i, j), (0, 1)) for i in range(6) for j in range(6)) / 36
    return (255 * smooth[..., :3]).astype(np.uint8), smooth[..., 3].astype(np.float32)


def panned(seed=0, frames=FRAMES):
    """Photographs and depth of a camera that pans by a pixel a frame."""
    photo, depth = canvas(seed)
    cuts = [slice(step, step + WIDTH) for step in range(frames)]
    return [photo[:, cut].copy() for cut in cuts], np.array([depth[:, cut] for cut in cuts])


def steadied(maps, photos, **options):
    steadier = Steadier(**options)
    return np.array([steadier(each, photo) for each, photo in zip(maps, photos, strict=True)]), steadier


def test_a_planted_scale_and_shift_leave_and_a_camera_that_moves_is_followed():
    photos, depth = panned()
    planted = (GAINS[:, None, None] * depth + 0.3 * GAINS[::-1, None, None]).astype(np.float32)
    found, steadier = steadied(planted, photos)
    before, after = flicker(planted, depth), flicker(found, depth)
    assert before.change > 0.1
    assert after.change < 0.2 * before.change
    assert after.error < before.error
    assert steadier.cuts == 0


def test_without_the_fit_the_planted_scale_stays(monkeypatch):
    photos, depth = panned()
    planted = (GAINS[:, None, None] * depth).astype(np.float32)
    whole = flicker(steadied(planted, photos)[0], depth).change
    monkeypatch.setattr(steady, "fit", lambda *_: None)
    assert flicker(steadied(planted, photos)[0], depth).change > 1.5 * whole


def test_planted_noise_becomes_less_where_the_camera_stands_still():
    rng = np.random.default_rng(1)
    photo, depth = (each[0] for each in panned())
    photos = [np.clip(photo + rng.normal(0, 2, photo.shape), 0, 255).astype(np.uint8) for _ in range(FRAMES)]
    truth = np.repeat(depth[None], FRAMES, 0)
    noisy = (truth + rng.normal(0, 0.03, truth.shape)).astype(np.float32)
    found, _ = steadied(noisy, photos)
    assert flicker(found, truth).change < 0.4 * flicker(noisy, truth).change
    assert flicker(found, truth).error < flicker(noisy, truth).error


def test_metres_keep_their_scale():
    rng = np.random.default_rng(2)
    photo, depth = (each[0] for each in panned())
    photos = [np.clip(photo + rng.integers(-2, 3, photo.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    maps = [depth, *[1.3 * depth] * 29]
    metres, aligned = (steadied(maps, photos, align=align)[0][-1] for align in (False, True))
    assert np.abs(metres - 1.3 * depth).max() < 0.01
    assert np.abs(aligned - 1.3 * depth).max() > 0.1


def test_an_object_that_moves_leaves_no_trail(monkeypatch):
    def trail():
        photos, maps = [], []
        for step in range(FRAMES):
            photo, depth = (each[0].copy() for each in panned())
            place = (slice(16, 32), slice(4 * step, 4 * step + 10))
            photo[place], depth[place] = 255, 3
            photos.append(photo)
            maps.append(depth)
        return np.abs(steadied(maps, photos)[0][-1] - maps[-1])[16:32, :40].mean()

    followed = trail()
    monkeypatch.setattr(steady, "_step", lambda share: 0 * share)
    assert followed < 0.3 * trail()


# --- scene cuts -------------------------------------------------------------------------------------------------------


def joined():
    """Six frames of one scene and six of another, whose depth is of another scale."""
    parts = [panned(seed, 6) for seed in (3, 4)]
    return [*parts[0][0], *parts[1][0]], np.concatenate([parts[0][1], 5 * parts[1][1] + 2])


def test_a_scene_cut_begins_anew(monkeypatch):
    photos, maps = joined()
    found, steadier = steadied(maps, photos)
    np.testing.assert_array_equal(found[6:], steadied(maps[6:], photos[6:])[0])
    assert (steadier.cuts, steadier.ends.low > 1) == (1, True)
    monkeypatch.setattr(steady, "is_cut", lambda *_: False)
    assert np.abs(steadied(maps, photos)[0][6] - maps[6]).mean() > 0.3


@pytest.mark.parametrize(
    ("change", "cut"),
    [
        (lambda grey: 0.6 * grey + 0.1, False),
        (lambda grey: np.roll(grey, 4, 1), False),
        (lambda grey: grey + 0.02 * np.random.default_rng(0).standard_normal(grey.shape), False),
        (lambda grey: grey[::-1, ::-1], True),
        (lambda grey: 0 * grey, True),
    ],
    ids=["exposure", "move", "noise", "other", "black"],
)
def test_a_cut_is_another_scene_and_not_another_exposure(change, cut):
    grey = panned()[0][0].mean(2) / 255
    assert is_cut(grey, change(grey)) is cut


def test_two_dark_frames_are_no_cut():
    rng = np.random.default_rng(0)
    assert not is_cut(*(0.01 * rng.random((HEIGHT, WIDTH)) for _ in range(2)))


def test_frames_of_another_size_begin_anew():
    photos, maps = panned()
    steadier = Steadier()
    steadier(maps[0], photos[0])
    small = maps[1][::2, ::2]
    np.testing.assert_array_equal(steadier(small, photos[1][::2, ::2]), small)


# --- causal, bounded, still -------------------------------------------------------------------------------------------


def test_a_result_does_not_depend_on_later_frames_and_is_not_changed_by_them():
    photos, maps = joined()
    steadier, results, copies = Steadier(), [], []
    for each, photo in zip(maps, photos, strict=True):
        results.append(steadier(each, photo))
        copies.append(results[-1].copy())
    np.testing.assert_array_equal(results, copies)
    other = [*photos[:8], *photos[:4]]
    np.testing.assert_array_equal(steadied([*maps[:8], *maps[:4]], other)[0][:8], copies[:8])


def test_the_state_does_not_grow():
    photos, maps = panned(frames=40)
    steadier, sizes = Steadier(), []
    for each, photo in zip(maps, photos, strict=True):
        steadier(each, photo)
        sizes.append(len(pickle.dumps(steadier)))
    assert max(sizes) - min(sizes) <= 16  # digits of numbers
    assert max(sizes) < 3 * (maps[0].nbytes + photos[0].nbytes)


def test_identical_frames_stay_identical_bit_for_bit():
    photos, maps = panned()
    steadier = Steadier()
    for each, photo in zip(maps, photos, strict=True):
        last = steadier(each, photo)
    ends = steadier.ends
    for step in range(3):
        np.testing.assert_array_equal(steadier(maps[-1] + step, photos[-1]), last)
    assert steadier.ends == ends
    assert np.abs(steadier(maps[0], photos[-2]) - last).max() > 0


def test_colours_are_stretched_over_ends_that_follow_slowly():
    photos, maps = panned()
    steadier = Steadier(align=False)
    with pytest.raises(ValueError, match="no frame"):
        steadier.ends  # noqa: B018
    steadier(maps[0], photos[0])
    assert steadier.ends == (maps[0].min(), maps[0].max())
    peak = maps[1].copy()
    peak[0, 0] = 100
    found = steadier(peak, photos[1])
    assert steadier.ends.high < 0.5 * found.max()


# --- the fit ----------------------------------------------------------------------------------------------------------


def test_the_fit_finds_a_planted_scale_past_outliers_and_does_not_shrink_it_by_noise(monkeypatch):
    monkeypatch.setattr(steady, "_PULL", 0.0)
    rng = np.random.default_rng(0)
    target = rng.random((HEIGHT, WIDTH))
    values = (target - 0.5) / 2 + rng.normal(0, 0.05, target.shape)
    values[:10] += 5
    still, changed = np.zeros_like(target), np.zeros_like(target)
    changed[:10] = 1
    scale, shift = fit(values, target, changed)
    assert abs(scale - 2) < 0.12
    assert abs(shift - 0.5) < 0.05
    assert abs(fit(values, target, still)[0] - 2) > 0.2
    assert np.polyfit(values[10:].ravel(), target[10:].ravel(), 1)[0] < 1.85  # least squares


def test_scale_and_shift_are_pulled_back_to_the_networks_own():
    target = np.random.default_rng(0).random((HEIGHT, WIDTH))
    scale, shift = fit(target / 2 - 1, target, 0 * target)
    assert scale == pytest.approx(2 - 0.01, abs=1e-6)
    assert shift == pytest.approx(2 - 0.02, abs=1e-6)


@pytest.mark.parametrize("values", [lambda target: -target, np.ones_like], ids=["reversed", "flat"])
def test_maps_that_are_not_alike_have_no_fit(values):
    target = np.random.default_rng(0).random((HEIGHT, WIDTH))
    assert fit(values(target), target, 0 * target) is None
