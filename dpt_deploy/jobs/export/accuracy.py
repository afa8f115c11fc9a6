"""Measure the cost and gain of a precision or an approximation: its output against FP32 and the truth, its speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.records import AccuracyRecord, FurtherAccuracy
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import Task
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.calibration import Calibration
from dpt_deploy.measure import metrics
from dpt_deploy.measure.timing import TimedCall, interleave, ratio
from dpt_deploy.scenes.render import render_scene
from dpt_deploy.scenes.seeds import ACCURACY

ToInputs = Callable[[np.ndarray], dict[str, np.ndarray]]  # bytes (B, H, W, 3) to the inputs of the graph

SCENES = 8
LEAST_SQNR = 10.0  # dB; below, the noise has more than a tenth of the power of the output
SECONDS = 3.0  # of timing, after warm-up


@dataclass(frozen=True)
class SampleImage:
    """An image (1, H, W, 3) as bytes and, if it is known, its depth (H, W) in metres."""

    pixels: np.ndarray
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class Samples:
    """Images that files are compared on; ``source`` describes where they come from."""

    source: str
    size: Size
    images: tuple[SampleImage, ...]


def from_scenes(size: Size, *, truth: bool, first: int = ACCURACY.start) -> Samples:
    """Render scenes that nothing else uses, from number ``first`` on; with ``truth``, keep their depth."""
    scenes = [render_scene(first + index, height=size.height, width=size.width) for index in range(SCENES)]
    images = tuple(SampleImage(scene.image[None], scene.depth if truth else None) for scene in scenes)
    return Samples(f"{SCENES} rendered scenes", size, images)


def from_photographs(calibration: Calibration, size: Size, *, skip: int = 0) -> Samples:
    """Take the first images of a folder after ``skip`` others."""
    images = [SampleImage(pixels) for _, pixels in islice(calibration.at([size]), skip, skip + SCENES)]
    return Samples(f"{len(images)} of {calibration.source}", size, tuple(images))


class AccuracyBench:
    """The outputs of an FP32 file ``full`` on the samples; other files are compared with them.

    ``tasks`` are those of its outputs, in their order.
    """

    def __init__(self, full: Path, samples: Samples, to_inputs: ToInputs, tasks: Sequence[Task]) -> None:
        self.full, self._samples, self._to_inputs, self._tasks = full, samples, to_inputs, tasks
        self._wanted = self._outputs(full, "ort")

    @property
    def size(self) -> Size:
        return self._samples.size

    def compare(self, path: Path, runtime: str) -> AccuracyRecord:
        """Measure the distance of the file at ``path`` from FP32, and the errors of both if the truth is known."""
        found = self._outputs(path, runtime)
        (first, *tasks), (depths, *others) = self._tasks, zip(found, self._wanted, strict=True)
        drift, sqnr = _distance(*depths, first)
        before, after = _score(depths[1], self._samples.images), _score(depths[0], self._samples.images)
        return AccuracyRecord(
            self._samples.source,
            len(self._samples.images),
            str(self._samples.size),
            runtime,
            drift,
            sqnr,
            (before[0], after[0]) if before and after else None,
            (before[1], after[1]) if before and after else None,
            further=tuple(
                FurtherAccuracy(task.name, *_distance(*pair, task)) for task, pair in zip(tasks, others, strict=True)
            ),
        )

    def speedup(self, path: Path, runtime: str = "ort") -> tuple[float, float, float]:
        """Time the file at ``path`` and FP32 in ``runtime``, interleaved, one image at a time.

        Returns:
            The speed-up over FP32: median, and the ends of its 95 % interval.
        """
        inputs = self._to_inputs(self._samples.images[0].pixels)
        with open_runner(self.full, runtime) as full, open_runner(path, runtime) as candidate:
            calls = {
                name: TimedCall(lambda runner=runner: runner.infer(inputs), runner.synchronize)  # type: ignore[misc]
                for name, runner in (("full", full), ("candidate", candidate))
            }
            timings = interleave(calls, seconds=SECONDS).timings
        return ratio(timings["full"], timings["candidate"])

    def _outputs(self, path: Path, runtime: str) -> list[list[np.ndarray]]:
        """Each output on all images, in the order of the tasks."""
        with open_runner(path, runtime) as runner:
            found = [runner.infer(self._to_inputs(image.pixels)).values() for image in self._samples.images]
        return [list(output) for output in zip(*found, strict=True)]


def check_accuracy(name: str, found: AccuracyRecord, limit: float | None, *, allow_poor: bool) -> None:
    """Check what was measured of ``name``, a precision or an approximation.

    Raises:
        ParityError: an output is not finite, or the result changes by more than ``limit``. Unless ``allow_poor`` is
            set: the ratio of signal to noise is below :data:`LEAST_SQNR` and there is no ``limit``, or the whole
            confidence interval of the speed-up over FP32 is below 1.
    """
    if not np.isfinite(found.largest_drift):
        raise ParityError(f"{name} returns numbers that are not finite", hint="see `dpt-deploy diagnose`")
    if limit is not None and found.change > limit:
        raise ParityError(
            f"{name} changes the result by {found.change:.2%}; allowed are {limit:.2%}", hint="allow more with --budget"
        )
    sqnr = found.least_sqnr
    if limit is None and sqnr is not None and sqnr < LEAST_SQNR and not allow_poor:
        raise ParityError(
            f"{name} keeps {sqnr:.1f} dB of signal to noise on {found.source}; at least {LEAST_SQNR:.0f} dB are"
            " wanted; nothing was written",
            hint="use --budget to keep blocks in floats, or fp16; --force writes it all the same",
        )
    if found.speedup and found.speedup[2] < 1.0 and not allow_poor:
        raise ParityError(
            f"{name} is no gain: {found.speedup[0]:.2f} times as fast as fp32 with {found.runtime} on this machine "
            f"({found.speedup[1]:.2f}-{found.speedup[2]:.2f}); nothing was written",
            hint="use fp32 here; --force writes it all the same",
        )


def _distance(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], task: Task) -> tuple[float, float | None]:
    """Mean drift and the ratio of signal to noise (None for labels) of one output."""
    pairs = list(zip(found, wanted, strict=True))
    drift = float(np.mean([_drift(output, full, task) for output, full in pairs]))
    return drift, None if wanted[0].dtype == np.int32 else metrics.sqnr(pairs)


def _drift(output: np.ndarray, full: np.ndarray, task: Task) -> float:
    return metrics.drift(output, full, task) if np.isfinite(output).all() else float("inf")


def _score(outputs: Sequence[np.ndarray], images: Sequence[SampleImage]) -> tuple[float, float] | None:
    """Mean AbsRel and δ1 of inverse depth after alignment to the truth; None if the truth is not known."""
    cap = metrics.OUTDOOR_CAP
    scores = []
    for output, image in zip(outputs, images, strict=True):
        if image.depth is not None and (valid := image.depth < cap).any():
            depth = metrics.zero_shot_depth(output[0], image.depth, valid, cap)
            scores.append(metrics.depth_metrics(depth, image.depth, valid))
    if not scores:
        return None
    return float(np.mean([score.abs_rel for score in scores])), float(np.mean([score.delta1 for score in scores]))
