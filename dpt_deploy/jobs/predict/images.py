"""One image through an artefact, and its maps into files. Any number of threads may be inside at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import BoundedSemaphore

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.core.files import ensure_folder
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import CANONICAL_DEPTH, METRIC_DEPTH, SKY
from dpt_deploy.imaging import rules
from dpt_deploy.imaging.points import PointOptions
from dpt_deploy.jobs.predict.targets import Targets
from dpt_deploy.runtime.predictor import Prediction, Predictor, not_canonical

with extra("images", purpose="reading and writing images"):
    from dpt_deploy.imaging.files import Pixels

_EXPLAINED = {
    "inverse depth": " up to scale and shift; near is large",
    "relative depth": " up to scale and shift; far is large",
    "canonical depth": "; it becomes metres by the focal length of the camera (--focal PX)",
    "metres": "",
}


class ImageWriter:
    """Predicts the maps of images and writes them.

    The network computes as many images at once as the predictor has streams; decoding, resizing and writing overlap
    with it. ``focal`` turns canonical depth into metres. ``points`` has the camera for files of points, which does so
    too.
    """

    def __init__(
        self,
        predictor: Predictor,
        kitti_crop: bool,
        focal: tuple[float, float] | None,
        points: PointOptions | None = None,
    ) -> None:
        self._predictor = predictor
        self._kitti_crop = kitti_crop
        self._focal = focal
        self._points = points
        self._turns = BoundedSemaphore(predictor.streams)
        self._folders: set[Path] = (
            set()
        )  # known to exist: looking for leftovers in a folder takes as long as it is full

    def write(self, pixels: Pixels, targets: Targets) -> None:
        """Write every output of one image in every format chosen for it."""
        pixels = self.crop(pixels)
        maps = self.predicted(pixels).maps
        for path, choice in targets.items():
            self._make(path.parent)
            choice.format.write(path, maps[choice.output.name], pixels)

    def crop(self, pixels: Pixels) -> Pixels:
        """The image, or the part of it that the KITTI evaluation uses."""
        return rules.kitti_crop(pixels) if self._kitti_crop else pixels

    def predicted(self, pixels: Pixels) -> Prediction:
        """The maps of an image, in metres if there is a focal length."""
        return self.metres(self._raw(pixels))

    def metres(self, prediction: Prediction) -> Prediction:
        """The same maps, in metres if there is a focal length, and with the camera if there is one."""
        if self._focal is not None:
            prediction = prediction.in_metres(self._focal)
        if self._points is None:
            return prediction
        if canonical := [found for found in prediction.maps.values() if found.camera]:
            lens = self._points.camera.at(Size(*canonical[0].values.shape))
            prediction = prediction.in_metres((lens.fx, lens.fy))
        maps = {name: replace(found, points=self._points) for name, found in prediction.maps.items()}
        return replace(prediction, maps=maps)

    def _raw(self, pixels: Pixels) -> Prediction:
        if self._predictor.overlaps:
            return self._predictor(pixels)
        begun = self._predictor.begin(pixels)
        with self._turns:
            computed = self._predictor.compute(begun)
        return self._predictor.end(computed, Size(*pixels.shape[:2]))

    def _make(self, folder: Path) -> None:
        if folder not in self._folders:
            ensure_folder(folder)
            self._folders.add(folder)


def drawn(prediction: Prediction, pixels: Pixels, targets: Targets) -> dict[Path, Pixels]:
    """The picture of a frame in every format chosen for it that is one."""
    return {
        path: choice.format.picture(prediction.maps[choice.output.name], pixels)
        for path, choice in targets.items()
        if choice.format.picture is not None
    }


def explain(outputs: Iterable[OutputRecord]) -> dict[str, str]:
    """Report the quantity of each output of depth, and return them by name of output."""
    quantities: dict[str, str] = {output.name: output.kind.quantity for output in outputs if output.kind.quantity}
    for name, quantity in quantities.items():
        say(f"{name}: {quantity}{_EXPLAINED[quantity]}")
    if any(output.task == SKY.name for output in outputs):
        say("sky: 0 on the ground, 1 in the sky; depth in the sky is that of the farthest ground")
    return quantities


def with_camera(outputs: tuple[OutputRecord, ...], *, needed: bool) -> tuple[OutputRecord, ...]:
    """The outputs of a model for images of a known camera: canonical depth becomes metres, other outputs stay.

    Raises:
        UsageError: there is no canonical depth, and the camera is not ``needed`` for files of points either.
    """
    if needed and CANONICAL_DEPTH.name not in [output.task for output in outputs]:
        return outputs
    return in_metres(outputs)


def in_metres(outputs: tuple[OutputRecord, ...]) -> tuple[OutputRecord, ...]:
    """The outputs of a model whose canonical depth is turned into metres.

    Raises:
        UsageError: none of them is canonical depth.
    """
    if CANONICAL_DEPTH.name not in [output.task for output in outputs]:
        raise not_canonical(next((output.kind.quantity for output in outputs if output.kind.quantity), ""))
    return tuple(
        replace(output, task=METRIC_DEPTH.name) if output.task == CANONICAL_DEPTH.name else output for output in outputs
    )
