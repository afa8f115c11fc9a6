"""Rendered scenes as the images of a study. Needs the extra ``export``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.jobs.study.images import Images, described
from dpt_deploy.jobs.study.outcome import Data
from dpt_deploy.measure.metrics import OUTDOOR_CAP
from dpt_deploy.scenes.seeds import STUDIES

with extra("export", purpose="rendering scenes"):
    import torch

    from dpt_deploy.scenes.layouts import balanced, kind_of
    from dpt_deploy.scenes.render import render_scene

SCENE_SIDE = 768  # pixels; more than any default size, so no network receives an enlarged image
_EVERY = 2  # errors are taken at every second row and column: an equally good mean, in less time
_PROBE_SIDE = 64


def scenes(count: int, seed: int, side: int | None = None) -> Images:
    """Make ``count`` rendered scenes of balanced kinds, from the ``seed``-th of :data:`.seeds.STUDIES` on.

    ``side`` is their height and width in pixels (None: :data:`SCENE_SIDE`).

    Raises:
        UsageError: there are fewer than two scenes, or some belong to another purpose than studies.
    """
    if count < 2:
        raise UsageError(f"--scenes {count}: an interval needs at least two images", hint="give more, for example 64")
    side = side or SCENE_SIDE
    first = STUDIES.start + seed
    numbers = balanced(first, count) if first in STUDIES else []
    if not numbers or max(numbers) not in STUDIES:
        raise UsageError(
            f"--seed {seed} leaves the scenes of studies; expected a seed below {len(STUDIES):,} whose {count} scenes "
            f"have numbers below {STUDIES.stop:,}",
            hint="larger numbers belong to validation and calibration: choose a smaller --seed",
        )

    def read(name: str) -> Sample:
        with _one_thread():
            scene = render_scene(_seed(name), height=side, width=side)
        seen = np.isfinite(scene.depth)
        grid = np.zeros_like(seen)
        grid[::_EVERY, ::_EVERY] = True
        return Sample(name, scene.image, seen & grid, depth=np.where(seen, scene.depth, np.float32(0)))

    probe = render_scene(first, height=_PROBE_SIDE, width=_PROBE_SIDE)
    digest = hashlib.sha256(probe.image.tobytes() + probe.depth.astype(np.float16).tobytes()).hexdigest()[:12]
    protocol = Protocol(
        "zero-shot", "abs_rel", count, Size(side, side), "minimal", cap=OUTDOOR_CAP, max_depth=OUTDOOR_CAP
    )
    return Images(
        Data("rendered scenes", described(protocol), f"scenes {side} {digest}", seed=first),
        [f"scene-{number}" for number in numbers],
        protocol,
        read,
        lambda name: kind_of(_seed(name)),
        sky=0.0,
        whole_frame=True,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Render with one thread: memory bounds the speed, and on a busy machine several threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seed(name: str) -> int:
    return int(name.removeprefix("scene-"))
