"""Scenes on disk: whole, resumed, shared, and never taken for what they are not."""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from support.disks import full_disk
from support.faults.calling import process
from support.reporting import recording

from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.jobs.train import rendered
from dpt_deploy.jobs.train.rendered import LabelledScenes, RenderedScenes, _mapper
from dpt_deploy.scenes import layouts
from dpt_deploy.scenes.render import render_scene

SIDE = 16


def differences(store):
    """Indices at which a store holds something else than the generator draws."""
    found = []
    for index in range(store.count):
        scene = render_scene(store.first + index, height=store.side, width=store.side)
        inverse = (1 / scene.depth).astype(np.float16)
        same = np.array_equal(store.images[index], scene.image) and np.array_equal(store.inverse[index], inverse)
        if isinstance(store, LabelledScenes):
            same = same and np.array_equal(store.targets[index], scene.labels)
        found += [] if same else [index]
    return found


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path):
    """Four scenes, from seed 7 on."""
    made = RenderedScenes(tmp_path, 4, SIDE, first=7)
    made.render(workers=1)
    return made


def test_scenes_are_what_the_generator_draws(store, tmp_path):
    assert differences(store) == []
    assert store.missing().size == 0
    assert store.images.shape == (4, SIDE, SIDE, 3)
    assert store.targets is store.inverse
    assert files(tmp_path) == ["done.u8", "images.u8", "inverse.f16"]
    store.images[2, 0, 0] ^= 1
    assert differences(store) == [2]


def test_the_sky_has_inverse_depth_nought(tmp_path):
    store = RenderedScenes(tmp_path, 1, SIDE, first=29)  # a third of it is sky
    store.render(workers=1)
    sky = np.isinf(render_scene(29, height=SIDE, width=SIDE).depth)
    assert sky.mean() > 0.2
    assert np.array_equal(store.inverse[0] == 0, sky)


def test_what_is_there_is_not_rendered_again(store, tmp_path, monkeypatch):
    again = RenderedScenes(tmp_path, 4, SIDE, first=7)
    assert again.missing().size == 0
    monkeypatch.setattr(rendered, "render_scene", None)
    again.render(workers=1)
    assert differences(again) == []


def test_it_goes_on_where_it_broke_off(tmp_path, monkeypatch):
    def stop(task):
        if task.done == 2:
            raise KeyboardInterrupt

    with recording(stop), pytest.raises(KeyboardInterrupt):
        RenderedScenes(tmp_path, 4, SIDE).render(workers=1)
    again = RenderedScenes(tmp_path, 4, SIDE)
    assert again.missing().tolist() == [2, 3]
    again.render(workers=1)
    assert differences(again) == []


def test_other_scenes_are_kept_apart(store, tmp_path, monkeypatch):
    others = [
        RenderedScenes(tmp_path, 5, SIDE, 7),
        RenderedScenes(tmp_path, 4, 8, 7),
        RenderedScenes(tmp_path, 4, SIDE),
    ]
    draw = layouts._room
    for kind in layouts._KINDS:
        monkeypatch.setitem(layouts._KINDS, kind, lambda rng: (rng.random(), draw(rng))[1])
    rendered._probe.cache_clear()
    others.append(RenderedScenes(tmp_path, 4, SIDE, 7))
    rendered._probe.cache_clear()
    assert len({other.folder for other in [store, *others]}) == 5
    assert all(other.missing().size == other.count for other in others)
    assert store.missing().size == 0


def test_who_opens_them_at_the_same_time_sees_the_same(tmp_path):
    first = RenderedScenes(tmp_path, 3, SIDE)
    first.store(1, render_scene(1, height=SIDE, width=SIDE))
    second = RenderedScenes(tmp_path, 3, SIDE)
    assert second.missing().tolist() == [0, 2]
    second.render(workers=1)
    assert first.missing().size == 0
    assert differences(first) == []


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_come_later_and_leave_image_and_depth_alone(store, tmp_path):
    store.images[0] = 7  # not what would be drawn again
    labelled = LabelledScenes(tmp_path, 4, SIDE, first=7)
    assert labelled.folder == store.folder
    assert labelled.missing().size == 4
    labelled.render(workers=1)
    assert labelled.missing().size == 0
    assert differences(labelled) == [0]
    assert (labelled.images[0] == 7).all()
    assert labelled.targets.dtype == np.uint8
    assert RenderedScenes(tmp_path, 4, SIDE, first=7).missing().size == 0
    labels = [name for name in files(tmp_path) if name.startswith("labels-")]
    assert len(labels) == 2


def test_labels_render_what_else_is_missing(tmp_path):
    labelled = LabelledScenes(tmp_path, 2, SIDE)
    labelled.render(workers=1)
    assert differences(labelled) == []
    labelled._labelled[1] = 0
    assert labelled.missing().tolist() == [1]


def test_other_classes_have_other_labels(store, tmp_path, monkeypatch):
    first = LabelledScenes(tmp_path, 4, SIDE, first=7)
    first.render(workers=1)
    monkeypatch.setattr(rendered, "CLASSES", (*rendered.CLASSES, "more"))
    assert LabelledScenes(tmp_path, 4, SIDE, first=7).missing().size == 4


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images.u8", "inverse.f16"])
@pytest.mark.parametrize("change", [-1, 1, None], ids=["cut off", "too long", "missing"])
def test_scenes_whose_file_is_damaged_are_rendered_again(name, change, store, tmp_path):
    path = store.folder / name
    if change is None:
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size + change)
    again = RenderedScenes(tmp_path, 4, SIDE, first=7)
    assert again.missing().size == 4
    again.render(workers=1)
    assert differences(again) == []


def test_marks_that_are_damaged_cost_their_scenes_only(store, tmp_path):
    os.truncate(store.folder / "done.u8", 2)
    assert RenderedScenes(tmp_path, 4, SIDE, first=7).missing().tolist() == [2, 3]


def test_damaged_labels_cost_the_labels_only(store, tmp_path):
    LabelledScenes(tmp_path, 4, SIDE, first=7).render(workers=1)
    path = next(path for path in store.folder.glob("labels-*") if "done" not in path.name)
    os.truncate(path, 3)
    assert LabelledScenes(tmp_path, 4, SIDE, first=7).missing().size == 4
    assert RenderedScenes(tmp_path, 4, SIDE, first=7).missing().size == 0


# --- disks ------------------------------------------------------------------------------------------------------------


def test_without_room_nothing_is_begun(tmp_path):
    with full_disk(), pytest.raises(ResourceError, match=r"images\.u8: File too large"):
        RenderedScenes(tmp_path, 4, SIDE)
    assert [path.stat().st_size for path in tmp_path.rglob("*.*") if path.is_file()] == [0]
    made = RenderedScenes(tmp_path, 1, SIDE)
    made.render(workers=1)
    assert differences(made) == []


def test_the_room_is_taken_before_it_is_needed(tmp_path):
    """On a disk that fills up later, writing to a mapped file would kill the process."""
    made = RenderedScenes(tmp_path, 4, 64)
    for name in ("images.u8", "inverse.f16", "done.u8"):
        status = (made.folder / name).stat()
        assert status.st_blocks * 512 >= status.st_size


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        RenderedScenes(tmp_path / "file", 1, SIDE)
    folder = RenderedScenes(tmp_path, 1, SIDE).folder
    (folder / "done.u8").unlink()
    (folder / "done.u8").mkdir()
    with pytest.raises(UsageError, match="is not a regular file"):
        RenderedScenes(tmp_path, 1, SIDE)
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(UsageError, match="is not a folder"):
        RenderedScenes(tmp_path, 1, SIDE)


# --- processes --------------------------------------------------------------------------------------------------------


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_killed_with_its_workers_it_goes_on_later(tmp_path):
    with process(["support.rendering", tmp_path, 24, SIDE]) as started:
        assert started.stdout.readline() == "ready\n"
        workers = children(started.pid)
        started.kill()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        time.sleep(0.05)
    left = RenderedScenes(tmp_path, 24, SIDE)
    assert len(workers) >= 2
    assert 0 < left.missing().size < 24
    left.render(workers=1)
    assert differences(left) == []


def test_a_worker_that_dies_is_noticed():
    with pytest.raises(ResourceError, match="was killed") as caught, _mapper(2) as run:
        list(run(os._exit, [1]))
    assert "run the command again" in caught.value.hint


def test_a_gpu_is_used_by_this_process(tmp_path, monkeypatch):
    seen = []

    def drawn(seed, *, height, width, device):
        seen.append((device, os.getpid()))
        return render_scene(seed, height=height, width=width)

    store = RenderedScenes(tmp_path, 9, SIDE)
    monkeypatch.setattr(rendered, "render_scene", drawn)
    store.render(workers=8, device="cuda:1")
    assert seen == [("cuda:1", os.getpid())] * 9
    assert differences(store) == []


def test_an_interruption_does_not_wait_for_a_scene():
    def interrupted():
        with _mapper(2) as run:
            run(time.sleep, [300])
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 100
    assert not multiprocessing.active_children()


def test_one_worker_is_this_process():
    with _mapper(1) as run:
        assert list(run(lambda _index: os.getpid(), [0])) == [os.getpid()]


@pytest.mark.parametrize("name", ["", "images.u8", "inverse.f16", "done.u8"])
def test_a_link_in_the_place_of_the_store_is_refused_and_what_it_leads_to_stays(name, store, tmp_path):
    victim = tmp_path / "victim"
    (store.folder / name).rename(victim)
    (store.folder / name).symlink_to(victim)
    before = victim.read_bytes() if name else files(victim)
    with pytest.raises(UsageError, match="is a symbolic link"):
        RenderedScenes(tmp_path, 4, SIDE, first=7)
    assert (victim.read_bytes() if name else files(victim)) == before
