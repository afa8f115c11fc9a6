"""What a precision costs and gains: its output beside that of FP32 and beside the truth, if there is one; its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.records import WorthRecord
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import Task
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.calibration import Calibration
from dpt_deploy.measure import metrics
from dpt_deploy.measure.metrics import OUTDOOR_CAP as CAP
from dpt_deploy.measure.timing import TimedCall, interleave, ratio
from dpt_deploy.scenes.seeds import ACCURACY

Feed = Callable[[np.ndarray], dict[str, np.ndarray]]  # bytes (B, H, W, 3) to what the graph takes

SCENES = 8
SECONDS = 3.0  # of timing, after warm-up


@dataclass(frozen=True)
class JudgedImage:
    """An image (1, H, W, 3) as bytes and, where it is known, its depth (H, W) in metres."""

    pixels: np.ndarray
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class Samples:
    """What precisions are compared on; ``source`` says in words where the images come from."""

    source: str
    size: Size
    images: tuple[JudgedImage, ...]


def from_scenes(size: Size, *, truth: bool, first: int = ACCURACY.start) -> Samples:
    """Rendered scenes that nothing else uses, from number ``first`` on; with ``truth``, their depth."""
    from dpt_deploy.scenes.render import render_scene

    scenes = [render_scene(first + index, height=size.height, width=size.width) for index in range(SCENES)]
    images = tuple(JudgedImage(scene.image[None], scene.depth if truth else None) for scene in scenes)
    return Samples(f"{SCENES} rendered scenes", size, images)


def from_photographs(calibration: Calibration, size: Size, *, skip: int = 0) -> Samples:
    """The first images of a folder after ``skip`` others."""
    images = [JudgedImage(pixels) for _, pixels in islice(calibration.at([size]), skip, skip + SCENES)]
    return Samples(f"{len(images)} of {calibration.source}", size, tuple(images))


class TaskErrorBench:
    """Holds FP32's output on the samples, and compares other files with it."""

    def __init__(self, full: Path, samples: Samples, feed: Feed, task: Task) -> None:
        self.full, self._samples, self._feed, self._task = full, samples, feed, task
        self._wanted = self._outputs(full, "ort")

    @property
    def size(self) -> Size:
        return self._samples.size

    def worth(self, path: Path, runtime: str) -> WorthRecord:
        """How far the outputs of the file at ``path`` are from those of FP32, and how good both are."""
        found = self._outputs(path, runtime)
        pairs = list(zip(found, self._wanted, strict=True))
        before, after = _score(self._wanted, self._samples.images), _score(found, self._samples.images)
        return WorthRecord(
            self._samples.source,
            len(self._samples.images),
            str(self._samples.size),
            runtime,
            float(np.mean([_drift(ours, full, self._task) for ours, full in pairs])),
            None if self._wanted[0].dtype == np.int32 else metrics.sqnr(pairs),
            (before[0], after[0]) if before and after else None,
            (before[1], after[1]) if before and after else None,
        )

    def speedup(self, path: Path) -> tuple[float, float, float]:
        """Times as fast as FP32 on ONNX Runtime, one image at a time, turn by turn: median and 95 % interval."""
        feed = self._feed(self._samples.images[0].pixels)
        with open_runner(self.full) as full, open_runner(path) as ours:
            calls = {
                name: TimedCall(lambda runner=runner: runner.infer(feed), runner.synchronize)  # type: ignore[misc]
                for name, runner in (("full", full), ("ours", ours))
            }
            timings = interleave(calls, seconds=SECONDS).timings
        return ratio(timings["full"], timings["ours"])

    def _outputs(self, path: Path, runtime: str) -> list[np.ndarray]:
        with open_runner(path, runtime) as runner:
            return [next(iter(runner.infer(self._feed(image.pixels)).values())) for image in self._samples.images]


def _drift(ours: np.ndarray, full: np.ndarray, task: Task) -> float:
    if not np.isfinite(ours).all():
        return float("inf")
    return metrics.drift(ours, full, task)


def _score(outputs: Sequence[np.ndarray], images: Sequence[JudgedImage]) -> tuple[float, float] | None:
    """Mean AbsRel and δ1 of inverse depth after alignment to the truth; None where the truth is not known."""
    scores = []
    for output, image in zip(outputs, images, strict=True):
        if image.depth is not None and (valid := image.depth < CAP).any():
            depth = metrics.zero_shot_depth(output[0], image.depth, valid, CAP)
            scores.append(metrics.depth_metrics(depth, image.depth, valid))
    if not scores:
        return None
    return float(np.mean([score.abs_rel for score in scores])), float(np.mean([score.delta1 for score in scores]))
