"""Steady predictions of the frames of a video (``run --stable``). Needs NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dpt_deploy.artifact.records import OutputRecord
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.progress import say
from dpt_deploy.core.task import DEPTH, RELATIVE_DEPTH
from dpt_deploy.imaging.steady import Steadier
from dpt_deploy.runtime.predictor import Prediction

_UP_TO_SCALE = (DEPTH.name, RELATIVE_DEPTH.name)


def check_stable(outputs: Sequence[OutputRecord], source: object, *, video: bool) -> None:
    """Refuse ``--stable`` where there is nothing to steady, and say what is done with each output.

    Raises:
        UsageError: the source is no video, or the model returns no depth.
    """
    if not video:
        raise UsageError(
            f"--stable compares the frames of a video; {source} is none", hint="give a video, or leave --stable out"
        )
    if not any(output.kind.quantity for output in outputs):
        raise UsageError(
            f"--stable steadies depth; this model returns {' and '.join(output.kind.name for output in outputs)}",
            hint="leave --stable out: labels have no scale, and no value lies between two classes",
        )
    for output in outputs:
        say(f"--stable: {output.name}: {_done(output)}")


def _done(output: OutputRecord) -> str:
    if not output.kind.quantity:
        return f"{output.kind.name} stays as it is"
    if output.kind.name in _UP_TO_SCALE:
        return "scale, shift and pixels are held to the frame before"
    return f"pixels are held to the frame before; scale and shift are the network's ({output.kind.quantity})"


class SteadyMaps:
    """Steadies the maps of depth of one video. One frame after the other, in order."""

    def __init__(self, outputs: Sequence[OutputRecord]) -> None:
        self._steadiers = {
            output.name: Steadier(align=output.kind.name in _UP_TO_SCALE) for output in outputs if output.kind.quantity
        }

    @property
    def cuts(self) -> int:
        """The number of scene cuts so far."""
        return max(each.cuts for each in self._steadiers.values())

    def report_cuts(self) -> None:
        """Say how many scene cuts there were, if any."""
        if self.cuts:
            say(f"--stable: {self.cuts} scene {'cut' if self.cuts == 1 else 'cuts'}; each begins anew")

    def __call__(self, prediction: Prediction, pixels: np.ndarray) -> Prediction:
        """The steady prediction of the next frame, and the photograph (H, W, 3) that it is from."""
        maps = dict(prediction.maps)
        for name, steadier in self._steadiers.items():
            values = steadier(maps[name].values, pixels)
            maps[name] = replace(maps[name], values=values, ends=steadier.ends)
        return replace(prediction, maps=maps)
