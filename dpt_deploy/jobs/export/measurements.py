"""Setup of the measurements of one export: which images, at which sizes, in which form, compared how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.sidecar import WeightsSource
from dpt_deploy.core.progress import say
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, INPUT_UINT8
from dpt_deploy.jobs.common.samples import normalised
from dpt_deploy.jobs.export import accuracy
from dpt_deploy.jobs.export.accuracy import AccuracyBench, Samples
from dpt_deploy.jobs.export.calibration import Calibration, check_sizes, from_folder, from_scenes
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.landmarks import Landmarks
from dpt_deploy.scenes.seeds import ACCURACY_SEARCH

FEW_IMAGES = 8


@dataclass(frozen=True)
class MeasurementSetup:
    """Choices that all measurements of one export share.

    ``has_truth``: the output can be compared with the true depth of rendered scenes, because the weights are trained
    and the network returns inverse depth. ``landmarks`` name the modules whose numbers need FP32. ``folder`` is for
    temporary files.
    """

    request: ExportRequest
    calibration: Calibration
    has_truth: bool
    landmarks: Landmarks
    folder: Path

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes that ranges are measured at."""
        return check_sizes(self.request.res, self.request.recipe, self.request.only_size)

    def to_inputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Convert bytes (B, H, W, 3) to the inputs of the graph."""
        if self.request.input_kind == "uint8":
            return {INPUT_UINT8: pixels}
        image = self.request.recipe.image
        return {INPUT_FLOAT: normalised(pixels, image.mean, image.std)}

    def calibration_inputs(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield every calibration image at every size, as inputs of the graph."""
        for _size, pixels in self.calibration.at(self.sizes):
            yield self.to_inputs(pixels)

    @property
    def few(self) -> int:
        """Number of images of :meth:`few_inputs`."""
        return min(FEW_IMAGES, self.calibration.count)

    def few_inputs(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the first images at the first size, for means, which need fewer than ranges do."""
        for _size, pixels in islice(self.calibration.at(self.sizes[:1]), self.few):
            yield self.to_inputs(pixels)

    def bench(self, full: Path, *, search: bool = False) -> AccuracyBench:
        """Run the FP32 file ``full`` on the samples of the accuracy record, or of the ``search`` for a budget.

        The first output is measured. The two sets differ if there are enough images, so that the images of the record
        have chosen nothing.
        """
        samples = self._search_samples() if search else self._samples()
        return AccuracyBench(full, samples, self.to_inputs, self.request.tasks)

    @property
    def _size(self) -> Size:
        image = self.request.recipe.image
        return self.request.only_size or Size(image.height, image.width)

    def _samples(self) -> Samples:
        if self.request.calibration:
            return accuracy.from_photographs(self.calibration, self._size)
        return accuracy.from_scenes(self._size, truth=self.has_truth)

    def _search_samples(self) -> Samples:
        if not self.request.calibration:
            return accuracy.from_scenes(self._size, truth=self.has_truth, first=ACCURACY_SEARCH.start)
        spare = self.calibration.count - accuracy.SCENES
        if spare <= 0:
            say(f"{self.calibration.count} images are too few to choose blocks on some and report on others")
        return accuracy.from_photographs(self.calibration, self._size, skip=max(0, min(accuracy.SCENES, spare)))


def prepare(request: ExportRequest, source: WeightsSource, landmarks: Landmarks, folder: Path) -> MeasurementSetup:
    """Read the calibration images of ``request``, or choose rendered scenes.

    Raises:
        BadFileError: the folder of ``request.calibration`` holds no image.
    """
    model = request.recipe.model
    return MeasurementSetup(
        request,
        from_folder(request.calibration) if request.calibration else from_scenes(),
        has_truth=model.output_quantity == "inverse depth" and not source.is_random,
        landmarks=landmarks,
        folder=folder,
    )
