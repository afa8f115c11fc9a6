"""Rendered scenes: always the same, exact where they claim to be, and fit to train on."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.paths import TESTS

from dpt_deploy.jobs.train.rendered import _generator_digest
from dpt_deploy.scenes import layouts
from dpt_deploy.scenes.geometry import UPRIGHT, Box, Ground, ObjectFrame, about_x, about_y
from dpt_deploy.scenes.layouts import SHARES, Camera, Layout, Light, balanced, compose, kind_of
from dpt_deploy.scenes.render import _Renderer, render_scene
from dpt_deploy.scenes.texture import PATTERNS, Material
from dpt_deploy.scenes.things import CLASSES, Thing

GOLDEN = TESTS / "golden" / "scenes.npz"
SEEDS = range(30)
SIDE = 32
paired = partial(zip, strict=True)
LATTICE = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def scenes():
    return [render_scene(seed, height=SIDE, width=SIDE) for seed in SEEDS]


# --- always the same ------------------------------------------------------------------------------------------------


def departures(golden, scenes):
    """Shares of golden pixels that these scenes draw otherwise: colours by more than 3 of 255, depths by 1 in 1000."""
    colour = np.mean([np.abs(a.astype(int) - s.image).max(axis=-1) > 3 for a, s in paired(golden["image"], scenes)])
    known = [np.where(np.isinf(depth), 1e9, depth) for depth in golden["depth"]]
    found = [np.where(np.isinf(scene.depth), 1e9, scene.depth) for scene in scenes]
    depth = np.mean([np.abs(b / a - 1) > 1e-3 for a, b in paired(known, found)])
    labels = np.mean([a != scene.labels for a, scene in paired(golden["labels"], scenes)])
    return max(colour, depth, labels)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as stored:
        return dict(stored)


def test_the_generator_draws_what_it_always_drew(golden):
    side = golden["image"].shape[1]
    scenes = [render_scene(int(seed), height=side, width=side) for seed in golden["seeds"]]
    assert departures(golden, scenes) < 0.002  # rounding of another processor may move an edge
    assert sorted(scene.kind for scene in scenes) == ["close-up", "landscape", "room", "table"]


def test_another_generator_is_noticed(golden, monkeypatch):
    draw = layouts._KINDS["room"]
    monkeypatch.setitem(layouts._KINDS, "room", lambda rng: (rng.random(), draw(rng))[1])  # one number more
    side = golden["image"].shape[1]
    scenes = [render_scene(int(seed), height=side, width=side) for seed in golden["seeds"]]
    assert departures(golden, scenes) > 0.1


def test_the_golden_scene_has_the_digest_of_the_published_trainings(golden, monkeypatch):
    class Stored:
        image, depth = golden["image"][0], golden["depth"][0]

    monkeypatch.setattr("dpt_deploy.jobs.train.rendered._probe", lambda _seed: Stored)
    assert _generator_digest(0) == "8f9a0007"


def test_a_seed_is_a_scene(scenes):
    again = render_scene(4, height=SIDE, width=SIDE)
    for name in ("image", "depth", "labels"):
        assert np.array_equal(getattr(again, name), getattr(scenes[4], name))
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)
    assert len({scene.depth.tobytes() for scene in scenes}) == len(scenes)


def test_a_layout_follows_from_its_seed_alone():
    np.random.seed(7)
    assert repr(compose(11)) == repr(compose(11))
    assert repr(compose(11)) != repr(compose(12))


def test_the_kind_of_a_scene_is_known_without_composing_it():
    assert [kind_of(seed) for seed in range(40)] == [compose(seed).kind for seed in range(40)]


@pytest.mark.parametrize("count", [7, 20, 48, 160])
def test_balanced_seeds_have_the_shares_of_kinds_at_any_length(count):
    seeds = balanced(1_000_000, count)
    assert len(set(seeds)) == count
    assert min(seeds) >= 1_000_000
    assert seeds == balanced(1_000_000, 200)[:count]
    kinds = [kind_of(seed) for seed in seeds]
    assert all(abs(kinds.count(kind) - share * count) <= 1 for kind, share in SHARES.items())


def test_seeds_in_a_row_are_not_balanced():
    kinds = [kind_of(seed) for seed in range(1_000_000, 1_000_160)]
    assert max(abs(kinds.count(kind) - share * 160) for kind, share in SHARES.items()) > 10


# --- fit to train on --------------------------------------------------------------------------------------------------


def complaints(scene):
    """List the faults of a scene as a training example."""
    found = []
    if not 20 < scene.image.mean() < 235 or scene.image.std() < 5:
        found.append("nothing to see")
    if (scene.image == 0).mean() > 0.2 or (scene.image == 255).mean() > 0.2:
        found.append("badly exposed")
    if np.isnan(scene.depth).any() or not (scene.depth > 0.05).all():
        found.append("depth is no distance")
    if not np.array_equal(np.isinf(scene.depth), scene.labels == CLASSES.index("sky")):
        found.append("the sky is not where nothing is")
    near = scene.depth[np.isfinite(scene.depth)]
    if near.size and np.quantile(near, 0.95) / np.quantile(near, 0.05) < 1.05:
        found.append("flat")
    return found


def test_scenes_are_sane(scenes):
    assert [(seed, complaints(scene)) for seed, scene in paired(SEEDS, scenes) if complaints(scene)] == []
    for scene in scenes:
        assert scene.image.shape == (SIDE, SIDE, 3)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        assert scene.depth.shape == scene.labels.shape == (SIDE, SIDE)
        assert scene.depth.dtype == np.float32


def test_a_scene_that_is_not_sane_is_noticed(scenes):
    class Spoilt:
        image = np.zeros_like(scenes[0].image)
        depth = np.full_like(scenes[0].depth, np.inf)
        labels = np.ones_like(scenes[0].labels)

    assert complaints(Spoilt) == ["nothing to see", "badly exposed", "the sky is not where nothing is"]


def test_every_kind_and_every_class_occurs(scenes):
    assert {scene.kind for scene in scenes} == {"room", "landscape", "table", "close-up"}
    assert {CLASSES[label] for scene in scenes for label in np.unique(scene.labels)} == set(CLASSES)
    skies = [np.isinf(scene.depth).any() for scene in scenes]
    assert any(skies)
    assert not all(skies)


def test_indoors_there_is_no_way_out(scenes):
    assert not [scene.kind for scene in scenes if scene.kind in ("room", "table") and np.isinf(scene.depth).any()]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_scene_is_the_same_at_every_size(seed):
    """The middle one of 5x5 pixels looks along the same ray as the one pixel at a fifth of the size."""
    small, large = (render_scene(seed, height=side, width=side) for side in (20, 100))
    middle = large.depth[2::5, 2::5]
    assert np.mean(large.labels[2::5, 2::5] == small.labels) > 0.99
    assert np.mean(np.isclose(middle, small.depth, rtol=1e-4)) > 0.99
    assert np.mean(np.isclose(middle.T, small.depth, rtol=1e-4)) < 0.9
    averaged = large.image.reshape(20, 5, 20, 5, 3).mean(axis=(1, 3))
    assert np.abs(averaged - small.image).mean() < 12  # edges and sensor noise differ
    other = render_scene(seed + 4, height=20, width=20)
    assert np.abs(averaged - other.image).mean() > 20


# --- exact ------------------------------------------------------------------------------------------------------------


def paint(**changes):
    grey = {"first": np.full(3, 0.5), "second": np.full(3, 0.5), "scale": 1.0, "angle": 0.0, "roughness": 0.0}
    return Material(**{"pattern": "plain", "gloss": 0.0, "lattice": LATTICE, **grey, **changes})


SUN = Light(np.array([0.0, 1.0, 0.0]), None, strength=0.6, ambient=0.4, tint=np.ones(3))
FLAT = Thing(Ground(0.0), paint(), "ground")


def photographed(*things, camera, light=SUN, side=33):
    """Depth (side, side), labels and linear colour of things under a light, before exposure."""
    layout = Layout("test", camera, light, list(things))
    depth, labels, colour = _Renderer(layout, side, side, torch.device("cpu")).render()
    return depth.numpy(), labels.numpy(), colour.numpy()


AHEAD = Camera(np.array([0.0, 1.0, 0.0]), UPRIGHT, view=1.2)
DOWN = Camera(np.array([0.0, 4.0, 0.0]), about_x(np.pi / 2), view=1.0)


def test_depth_is_measured_along_the_optical_axis():
    wall = Thing(Box(ObjectFrame(np.array([0.0, 0.0, 6.0]), UPRIGHT), np.array([50.0, 50.0, 1.0])), paint(), "wall")
    depth, _, _ = photographed(wall, camera=AHEAD)
    assert np.allclose(depth, 5.0, atol=1e-5)
    x = np.tan(0.6) * np.linspace(-1, 1, 33)
    assert np.hypot(x[0], np.hypot(x[0], 1)) * 5.0 > 6.0  # the way to a corner is longer


def test_depth_of_the_ground_is_that_of_its_points():
    camera = Camera(np.array([0.3, 2.0, -1.0]), about_y(0.4) @ about_x(0.5), view=1.0)
    depth, labels, _ = photographed(FLAT, camera=camera)
    side = len(depth)
    x = ((np.arange(side) + 0.5) / side * 2 - 1) * np.tan(0.5)
    right, up = np.meshgrid(x, -x)
    ray = np.stack([right, up, np.ones_like(up)], axis=-1) @ camera.rotation.T
    point = camera.position + ray * depth[..., None]
    below = ray[..., 1] < 0
    assert below.mean() > 0.6
    assert np.abs(point[below][:, 1]).max() < 1e-4
    forward = camera.rotation[:, 2]
    assert np.allclose((point[below] - camera.position) @ forward, depth[below], rtol=1e-5)
    assert np.isinf(depth[~below]).all()
    assert np.array_equal(labels == CLASSES.index("sky"), ~below)


def test_the_nearer_of_two_things_is_seen_and_gives_the_label():
    near = Thing(Box(ObjectFrame(np.array([-1.0, 1.0, 3.0]), UPRIGHT), np.ones(3)), paint(), "furniture")
    far = Thing(Box(ObjectFrame(np.array([0.0, 1.0, 8.0]), UPRIGHT), np.array([9.0, 9.0, 1.0])), paint(), "building")
    for things in ((near, far), (far, near)):
        depth, labels, _ = photographed(*things, camera=AHEAD)
        assert np.array_equal(labels == CLASSES.index("furniture"), depth < 3)
        assert np.array_equal(labels == CLASSES.index("building"), depth > 6)
        assert 0.1 < (depth < 3).mean() < 0.9


def test_what_stands_in_the_light_shades_what_is_below_it():
    plate = Thing(Box(ObjectFrame(np.array([0.0, 6.0, 0.0]), UPRIGHT), np.array([1.0, 0.1, 1.0])), paint(), "furniture")
    _, _, open_air = photographed(FLAT, camera=DOWN)
    _, _, shaded = photographed(FLAT, plate, camera=DOWN)  # it hangs above the camera, between ground and sun
    assert np.allclose(open_air, 0.5 * (0.4 + 0.6), atol=1e-5)
    x = ((np.arange(33) + 0.5) / 33 * 2 - 1) * np.tan(0.5) * 4
    under = (np.abs(x)[:, None] < 1) & (np.abs(x)[None, :] < 1)
    assert np.allclose(shaded[under], 0.5 * 0.4, atol=1e-5)
    assert np.allclose(shaded[~under], 0.5, atol=1e-5)


def test_a_lamp_shades_only_what_lies_behind_a_thing_and_walls_shade_nothing():
    lamp = Light(np.array([0.0, 1.0, 0.0]), np.array([0.0, 3.0, 0.0]), strength=0.6, ambient=0.4, tint=np.ones(3))
    shell = Thing(Box(ObjectFrame(np.array([0.0, 2.5, 0.0]), UPRIGHT), np.full(3, 5.0), room=True), paint(), "wall")
    above, below = (
        Thing(Box(ObjectFrame(np.array([0.0, y, 0.0]), UPRIGHT), np.array([0.3, 0.02, 0.3])), paint(), "furniture")
        for y in (4.5, 2.5)
    )
    camera = Camera(np.array([0.0, 2.0, 0.0]), about_x(np.pi / 2), view=1.0)
    _, _, plain = photographed(FLAT, camera=camera, light=lamp)
    _, _, walled = photographed(FLAT, shell, above, camera=camera, light=lamp)
    _, _, shaded = photographed(FLAT, shell, below, camera=camera, light=lamp)
    assert plain.min() > 0.3
    assert np.allclose(walled, plain, atol=1e-5)
    assert np.allclose(shaded[16, 16], 0.2, atol=1e-5)


def test_haze_hides_what_is_far():
    wall = Thing(
        Box(ObjectFrame(np.array([0.0, 0.0, 61.0]), UPRIGHT), np.array([90.0, 90.0, 1.0])), paint(), "building"
    )
    layout = Layout("test", AHEAD, SUN, [wall], haze=20.0)
    _, _, hazy = _Renderer(layout, 9, 9, torch.device("cpu")).render()
    assert torch.allclose(hazy, torch.full_like(hazy, 0.7), atol=0.05)  # three times that distance: 95 % hidden
    layout.haze = None
    _, _, clear = _Renderer(layout, 9, 9, torch.device("cpu")).render()
    assert clear.max() < 0.4


# --- texture ----------------------------------------------------------------------------------------------------------


def contrast(pattern, footprint):
    """Deviation of a black and white pattern of period 1, seen by pixels of that size."""
    uv = torch.from_numpy(np.random.default_rng(1).uniform(0, 9, (2, 4000))).float()
    material = paint(pattern=pattern, first=np.zeros(3), second=np.ones(3))
    return float(material.colour(uv, torch.full((4000,), footprint)).std())


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern != "plain"])
def test_what_a_pixel_cannot_resolve_fades(pattern):
    sizes = (0.001, 0.2, 1.0, 50.0)
    seen = [contrast(pattern, size) for size in sizes]
    assert seen[0] > 0.15
    assert all(coarse <= fine * 1.1 for fine, coarse in pairwise(seen))
    assert seen[-1] < 0.01
    assert contrast("plain", 0.001) == 0


def test_roughness_fades_as_well():
    uv = torch.from_numpy(np.random.default_rng(1).uniform(0, 9, (2, 4000))).float()
    rough = paint(roughness=0.3)
    assert rough.colour(uv, torch.full((4000,), 0.01)).std() > 0.02
    assert rough.colour(uv, torch.full((4000,), 5.0)).std() < 1e-6
    assert paint().colour(uv, torch.full((4000,), 0.01)).std() < 1e-6
