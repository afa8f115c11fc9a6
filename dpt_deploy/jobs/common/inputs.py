"""Model inputs: images in the form that the reference and the artefact take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dpt_deploy.artifact.records import OutputRecord, Shapes
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, ImageSpec
from dpt_deploy.jobs.common.samples import normalised, structured_images
from dpt_deploy.scenes.seeds import PARITY


class ReferenceDescription(Protocol):
    """The part of a sidecar that decides what the PyTorch reference gets and returns.

    An export knows it before it has a sidecar.
    """

    @property
    def precision(self) -> str: ...

    @property
    def image(self) -> ImageSpec: ...

    @property
    def shapes(self) -> Shapes: ...

    @property
    def outputs(self) -> Sequence[OutputRecord]: ...


def reference_input(sidecar: ReferenceDescription, images: np.ndarray) -> dict[str, np.ndarray]:
    """Convert bytes (B, H, W, 3) to the input of the PyTorch reference: normalised float32 (B, 3, H, W)."""
    return {INPUT_FLOAT: normalised(images, sidecar.image.mean, sidecar.image.std)}


def model_inputs(sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """Convert bytes (B, H, W, 3) to the input of the artefact."""
    name = sidecar.inputs[0].name
    if sidecar.input_kind == "uint8":
        return {name: images}
    return {name: normalised(images, sidecar.image.mean, sidecar.image.std)}


def parity_images(precision: str, batch: int, size: Size) -> np.ndarray:
    """Make images to compare outputs on, bytes (B, H, W, 3): patterns with every contrast and frequency.

    A quantised graph gets rendered scenes: its ranges are those of natural images, and would clip a pattern.
    """
    if find_precision(precision).quantised is None:
        return structured_images(batch, size.height, size.width)
    from dpt_deploy.scenes.render import render_scene

    scenes = [render_scene(seed, height=size.height, width=size.width) for seed in PARITY[:batch]]
    return np.stack([scene.image for scene in scenes])
