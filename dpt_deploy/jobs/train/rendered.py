"""Rendered scenes on disk: rendered once on all cores, resumable, read through memory maps."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from dpt_deploy.core.disk.private import open_own_file, own_folder
from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.files import ensure_folder, write_errors
from dpt_deploy.core.progress import progress
from dpt_deploy.scenes.render import Scene, render_scene
from dpt_deploy.scenes.things import CLASSES

_PROBE_SIDE = 64
_SCENES_PER_WORKER = 4  # fewer are rendered before another process has started


class RenderedScenes:
    """``count`` scenes from seed ``first`` at ``side`` x ``side`` pixels, as arrays on disk.

    ``images`` is uint8 (N, side, side, 3), ``inverse`` float16 (N, side, side): inverse depth in 1/m, 0 in the sky.
    ``targets`` are what a network learns: here ``inverse``. The name of the folder contains a digest of the first
    scene, so scenes of another version of the generator are never mixed in.

    Raises:
        ResourceError: the arrays cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, count: int, side: int, first: int = 0) -> None:
        self.folder = folder / f"scenes-{side}-{first}-{count}-{_generator_digest(first)}"
        self.count, self.side, self.first = count, side, first
        ensure_folder(folder)
        with write_errors(self.folder):
            own_folder(self.folder)
        images, images_lost = _array(self.folder / "images.u8", np.uint8, (count, side, side, 3))
        inverse, inverse_lost = _array(self.folder / "inverse.f16", np.float16, (count, side, side))
        self.images = images
        self.inverse = self.targets = inverse
        self._done = _marks(self.folder / "done.u8", count, anew=images_lost or inverse_lost)

    def missing(self) -> np.ndarray:
        """Indices of scenes that are not rendered yet."""
        return np.flatnonzero(self._done == 0)

    def render(self, *, workers: int, device: str = "cpu") -> None:
        """Render the missing scenes; an interrupted run can be continued.

        On a GPU this process renders. On a CPU up to ``workers`` processes do.

        Raises:
            ResourceError: a worker was killed.
        """
        todo = [int(index) for index in self.missing()]
        workers = min(workers, len(todo) // _SCENES_PER_WORKER) if device == "cpu" else 1
        with _mapper(workers) as run, progress("scenes", self.count) as scenes:
            scenes.update(done=self.count - len(todo))
            for _ in run(partial(_render_into, self, device), todo):
                scenes.advance()

    def store(self, index: int, scene: Scene) -> None:
        """Store one scene, then mark it as done."""
        self.images[index] = scene.image
        self.inverse[index] = 1.0 / scene.depth
        self._done[index] = 1

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the location only; a worker opens the files itself."""
        return type(self), (self.folder.parent, self.count, self.side, self.first)


class LabelledScenes(RenderedScenes):
    """Rendered scenes with labels: ``targets`` is uint8 (N, side, side), indices into ``CLASSES``.

    Scenes without labels are rendered again for them; images and depth stay unchanged.
    """

    def __init__(self, folder: Path, count: int, side: int, first: int = 0) -> None:
        super().__init__(folder, count, side, first)
        name = f"labels-{_labels_digest(first)}"
        self.targets, lost = _array(self.folder / f"{name}.u8", np.uint8, (count, side, side))
        self._labelled = _marks(self.folder / f"{name}-done.u8", count, anew=lost)

    def missing(self) -> np.ndarray:
        return np.flatnonzero((self._done == 0) | (self._labelled == 0))

    def store(self, index: int, scene: Scene) -> None:
        if not self._done[index]:
            super().store(index, scene)
        self.targets[index] = scene.labels
        self._labelled[index] = 1


def _array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> tuple[np.memmap, bool]:
    """Map the array in a file; True if the file is new or had another size, so its content is lost."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with write_errors(path):
        handle = open_own_file(path, os.O_RDWR | os.O_CREAT)
        try:
            lost = os.fstat(handle).st_size != size
            if lost:
                _reserve(handle, size)
        finally:
            os.close(handle)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape), lost


def _marks(path: Path, count: int, *, anew: bool) -> np.memmap:
    """Map one byte per scene, 1 if it is complete; all are reset if the content was lost (``anew``)."""
    marks, _ = _array(path, np.uint8, (count,))
    if anew:
        marks[:] = 0
    return marks


def _reserve(handle: int, size: int) -> None:
    """Allocate ``size`` bytes for a file; writing to a sparse map on a full disk would kill the process.

    Existing maps of other processes stay valid.
    """
    before = os.fstat(handle).st_size
    if before > size or not hasattr(os, "posix_fallocate"):
        os.ftruncate(handle, size)
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError:
        os.ftruncate(handle, before)  # do not fill the disk with an incomplete file
        raise


def _render_into(store: RenderedScenes, device: str, index: int) -> None:
    store.store(index, render_scene(store.first + index, height=store.side, width=store.side, device=device))


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[None]]]:
    """Yield the built-in ``map``, or that of a pool of processes."""
    if workers <= 1:
        yield map
        return
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        yield pool.map
    except BrokenProcessPool as exc:
        raise ResourceError(
            "a process that renders scenes was killed",
            hint="free some memory and run the command again; finished scenes are kept",
        ) from exc
    except BaseException:  # an interruption does not wait for running scenes
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Use one thread, ignore interrupts (the parent handles them), and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def _probe(seed: int) -> Scene:
    return render_scene(seed, height=_PROBE_SIDE, width=_PROBE_SIDE)


def _generator_digest(seed: int) -> str:
    """Digest of a rendered scene, which depends on the generator's output and not on its source text."""
    scene = _probe(seed)
    return hashlib.sha256(scene.image.tobytes() + scene.depth.astype(np.float16).tobytes()).hexdigest()[:8]


def _labels_digest(seed: int) -> str:
    """Digest of the class names and the labels of a scene."""
    return hashlib.sha256(" ".join(CLASSES).encode() + _probe(seed).labels.tobytes()).hexdigest()[:8]
