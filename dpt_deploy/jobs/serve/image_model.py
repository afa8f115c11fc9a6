"""Image files to maps around a network that a server runs: what the Python back end of Triton executes.

It needs NumPy and the extra ``images`` only, and knows nothing of the server: the network is a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.runtime.predictor import Predictor

with extra("images", purpose="decoding images"):
    from dpt_deploy.imaging.files import Pixels, decode_image

Network = Callable[[Tensors], Mapping[str, np.ndarray]]  # inputs of one batch to all outputs
_NAME = Path("image")  # of the image in a request, in messages


@dataclass(frozen=True)
class _Decoded:
    """One image of a request: its place among the requests, its pixels, and the size at which the network runs."""

    index: int
    pixels: Pixels
    size: Size


class RemoteNetwork:
    """A network behind a function, as a :class:`~dpt_deploy.core.runner.Runner`."""

    name = "server"

    def __init__(self, sidecar: Sidecar, call: Network) -> None:
        self._sidecar, self._call = sidecar, call

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        return self._sidecar.inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        return self._sidecar.outputs

    def infer(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Call the function."""
        return dict(self._call(inputs))

    def synchronize(self) -> None:
        """The function returns finished arrays: nothing to wait for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


class ImageModel:
    """Decodes images, resizes them by the artefact's own rule, and calls the network on batches of one size.

    With a plan, an image whose size by the rule was not built is computed at the built size of the nearest aspect, and
    of the nearest area among those.
    ``max_batch`` bounds the batches.
    """

    def __init__(self, sidecar: Sidecar, call: Network, *, max_batch: int) -> None:
        self._sidecar, self._max_batch = sidecar, max_batch
        self._runner = RemoteNetwork(sidecar, call)
        self._by_rule = Predictor(self._runner, sidecar)

    def network_size(self, height: int, width: int) -> Size:
        """The size at which the network runs for an image of ``height`` x ``width`` pixels."""
        wanted = self._by_rule.network_size(height, width)
        profiles = self._sidecar.engine.profiles if self._sidecar.engine else ()
        if not profiles or any(profile.takes(1, wanted) for profile in profiles):
            return wanted
        return min((Size(*profile.high[1:]) for profile in profiles), key=lambda size: _distance(size, wanted))

    def predict(self, images: Sequence[bytes]) -> list[dict[str, np.ndarray] | DptError]:
        """The maps (H, W) of each image by output name, or the error of that image; others are not affected."""
        results: list[dict[str, np.ndarray] | DptError] = [DptError("not computed")] * len(images)
        groups: dict[Size, list[_Decoded]] = {}
        for index, data in enumerate(images):
            try:
                pixels = decode_image(_NAME, data)
                size = self.network_size(*pixels.shape[:2])
                groups.setdefault(size, []).append(_Decoded(index, pixels, size))
            except DptError as exc:
                results[index] = exc
        for group in groups.values():
            for first in range(0, len(group), self._max_batch):
                self._compute(group[first : first + self._max_batch], results)
        return results

    def _compute(self, group: Sequence[_Decoded], results: list[dict[str, np.ndarray] | DptError]) -> None:
        """Compute one batch; put the maps, or the error, of each image in its place."""
        predictor = Predictor(self._runner, self._sidecar, size=group[0].size)
        try:
            prepared = [predictor.prepare(each.pixels) for each in group]
            batch = {name: np.concatenate([each[name] for each in prepared]) for name in prepared[0]}
            outputs = self._runner.infer(batch)
        except DptError as exc:
            for each in group:
                results[each.index] = exc
            return
        for place, each in enumerate(group):
            one = {name: values[place : place + 1] for name, values in outputs.items()}
            try:
                maps = predictor.finish(one, *each.pixels.shape[:2]).maps
                results[each.index] = {name: found.values for name, found in maps.items()}
            except DptError as exc:
                results[each.index] = exc


def _distance(size: Size, wanted: Size) -> tuple[float, float]:
    """Distance in aspect, then in area; both as the logarithm of a ratio."""
    high, wide = math.log(size.height / wanted.height), math.log(size.width / wanted.width)
    return abs(high - wide), abs(high + wide)
