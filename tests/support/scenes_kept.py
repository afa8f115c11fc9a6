"""Small scenes that many tests use are rendered once in a process."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from dpt_deploy.scenes import render
from dpt_deploy.scenes.layouts import Layout
from dpt_deploy.scenes.render import Scene

LARGEST = 200 * 200  # pixels
KEPT = 400  # scenes of at most a third of a megabyte

_scenes: dict[tuple[object, ...], Scene] = {}


@contextmanager
def scenes_kept() -> Iterator[None]:
    """Return copies of what ``render_scene`` has rendered before for the same layout, seed, size and device."""
    with mock.patch.object(render, "render_layout", _remembering(render.render_layout)):
        yield


def _remembering(rendered: Callable[..., Scene]) -> Callable[..., Scene]:
    def scene(layout: Layout, seed: int, *, height: int, width: int, device: str = "cpu") -> Scene:
        if height * width > LARGEST:
            return rendered(layout, seed, height=height, width=width, device=device)
        key = (hashlib.sha256(pickle.dumps(layout)).digest(), seed, height, width, device)
        if key not in _scenes:
            if len(_scenes) == KEPT:
                del _scenes[next(iter(_scenes))]
            _scenes[key] = rendered(layout, seed, height=height, width=width, device=device)
        kept = _scenes[key]
        return replace(kept, image=kept.image.copy(), depth=kept.depth.copy(), labels=kept.labels.copy())

    return scene
