"""What a study measures on: rendered scenes, or a data set on disk; both judged by a protocol of the paper."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ImageSpec, ModelSpec
from dpt_deploy.datasets.base import Sample
from dpt_deploy.datasets.evaluate import evaluate_plane, evaluate_sample, resize_bilinear
from dpt_deploy.datasets.protocols import Protocol
from dpt_deploy.datasets.registry import open_dataset
from dpt_deploy.jobs.study.outcome import Data
from dpt_deploy.measure.metrics import zero_shot_depth
from dpt_deploy.scenes.seeds import STUDIES

Map = NDArray[np.floating[Any]]
SCENE_SIDE = 768  # pixels: more than any default size, so that no network is fed an enlarged image
SCENE_CAP = 80.0  # metres; what is farther counts as sky, as in the paper's outdoor protocols
_EVERY = 2  # errors are taken at every second row and column: as good a mean, in less time
_PROBE_SIDE = 64
_ALIGNED = "AbsRel after per-image scale and shift in inverse depth (least squares)"
_METRIC = "AbsRel of depth in metres, unaligned"


@dataclass(frozen=True)
class Images:
    """Named images with their truth, read one at a time, and the protocol they are judged by.

    ``sky`` is the inverse depth to show where no truth is known (NaN: unknown); ``whole_frame`` images enter a network
    at exactly the size asked, others by the protocol's resize rule, with their aspect kept. ``kind`` is that of a
    scene, whose shares are fixed, and empty for the images of a data set.
    """

    data: Data
    names: Sequence[str]
    protocol: Protocol
    read_sample: Callable[[str], Sample]
    kind: Callable[[str], str]
    sky: float
    whole_frame: bool

    def read(self, name: str) -> tuple[Sample, dict[str, float]]:
        """An image with its truth, and the errors of the best plane through that.

        Raises:
            BadFileError: it cannot be read, or nothing in it can be measured.
        """
        sample = self.read_sample(name)
        plane = evaluate_plane(self.protocol, sample)
        if not plane:
            raise BadFileError(f"{name}: no pixel of it has a truth to measure", hint="leave it out")
        return sample, plane

    def errors(self, output: NDArray[Any], sample: Sample) -> dict[str, float]:
        """Errors of what a network returned, (h, w) at any size, by the names of ``protocols.METRICS``."""
        found = evaluate_sample(self.protocol, output, sample)
        if not isinstance(found, dict):
            raise TypeError(f"{self.data.name} does not judge depth")
        return found

    def truth(self, sample: Sample) -> Map:
        """Inverse depth (H, W) in 1/m for the eye, NaN where it is unknown."""
        depth = _depth(sample)
        return np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), self.sky)

    def nearness(self, output: NDArray[Any], sample: Sample) -> Map:
        """A network's output as inverse depth (H, W) in 1/m, aligned as for its error."""
        resized = resize_bilinear(output, Size(*sample.valid.shape))
        if self.protocol.kind == "metric":
            return 1 / np.maximum(resized, 1e-6)
        return 1 / zero_shot_depth(resized, _depth(sample), sample.valid, self.protocol.cap)

    def rule(self, image: ImageSpec, size: Size) -> ImageSpec:
        """How an image enters a network that is asked to run at ``size``."""
        sized = replace(image, height=size.height, width=size.width)
        if self.whole_frame:
            return replace(sized, keep_aspect=False)
        return replace(sized, keep_aspect=True, resize=self.protocol.resize)

    def check(self, model: ModelSpec) -> None:
        """Raise :class:`UsageError` unless the model returns what the protocol judges."""
        metric = self.protocol.kind == "metric"
        if metric != (model.metric is not None):
            wanted = "depth in metres" if metric else "inverse depth"
            raise UsageError(
                f"{self.data.name} judges {wanted}; {model.name} returns {'inverse depth' if metric else 'metres'}",
                hint="choose a model that was made for it, for example hybrid-nyu for nyu-metric",
            )


def scenes(count: int, seed: int) -> Images:
    """``count`` rendered scenes from the ``seed``-th of :data:`~dpt_deploy.scenes.seeds.STUDIES` on, kinds balanced.

    Raises:
        UsageError: fewer than two scenes, or some of them are not kept for studies.
        MissingExtraError: PyTorch is not installed.
    """
    with extra("export", purpose="rendering scenes"):
        from dpt_deploy.scenes.layouts import balanced, kind_of
        from dpt_deploy.scenes.render import render_scene
    if count < 2:
        raise UsageError(f"--scenes {count}: an interval needs two images at least", hint="give more, for example 64")
    first = STUDIES.start + seed
    numbers = balanced(first, count) if first in STUDIES else []
    if not numbers or max(numbers) not in STUDIES:
        raise UsageError(
            f"--seed {seed}: {count} scenes from there on are not all kept for studies; expected a seed below "
            f"{len(STUDIES):,} with all its scenes below number {STUDIES.stop:,}",
            hint="scenes with larger numbers belong to validation and calibration: choose a smaller --seed",
        )

    def read(name: str) -> Sample:
        with _one_thread():
            scene = render_scene(_seed(name), height=SCENE_SIDE, width=SCENE_SIDE)
        seen = np.isfinite(scene.depth)
        grid = np.zeros_like(seen)
        grid[::_EVERY, ::_EVERY] = True
        return Sample(name, scene.image, seen & grid, depth=np.where(seen, scene.depth, np.float32(0)))

    probe = render_scene(first, height=_PROBE_SIDE, width=_PROBE_SIDE)
    digest = hashlib.sha256(probe.image.tobytes() + probe.depth.astype(np.float16).tobytes()).hexdigest()[:12]
    protocol = Protocol(
        "zero-shot", "abs_rel", count, Size(SCENE_SIDE, SCENE_SIDE), "minimal", cap=SCENE_CAP, max_depth=SCENE_CAP
    )
    return Images(
        Data("rendered scenes", _described(protocol), f"scenes {SCENE_SIDE} {digest}", seed=first),
        [f"scene-{number}" for number in numbers],
        protocol,
        read,
        lambda name: kind_of(_seed(name)),
        sky=0.0,
        whole_frame=True,
    )


def data_set(spec: str, limit: int | None) -> Images:
    """The depth data set ``NAME:DIR``, or its first ``limit`` images.

    Raises:
        UsageError: not of that form, no such set, or one that is not of depth.
        BadFileError: the folder is missing or not whole.
    """
    opened = open_dataset(spec)
    if opened.protocol.kind not in ("zero-shot", "metric"):
        raise UsageError(f"{opened.name} has no depth to measure", hint="choose one of depth, for example nyu or kitti")
    position = {name: index for index, name in enumerate(opened.names)}
    folder = Path(spec.partition(":")[2]).expanduser().resolve()
    return Images(
        Data(opened.name, _described(opened.protocol), f"{opened.name} {folder}"),
        list(opened.names)[:limit],
        opened.protocol,
        lambda name: opened[position[name]],
        lambda _name: "",
        sky=float("nan"),
        whole_frame=False,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Rendering is bound by memory: more threads gain little, and on a busy machine wait for one another ten times."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _described(protocol: Protocol) -> str:
    measure = _METRIC if protocol.kind == "metric" else _ALIGNED
    crop = f", {protocol.crop} crop" if protocol.crop != "none" else ""
    return f"{measure}; predictions end at {protocol.cap:g} m{crop}; mean over images"


def _seed(name: str) -> int:
    return int(name.removeprefix("scene-"))


def _depth(sample: Sample) -> NDArray[np.float32]:
    if sample.depth is None:
        raise ValueError(f"{sample.name} has no depth")
    return sample.depth
