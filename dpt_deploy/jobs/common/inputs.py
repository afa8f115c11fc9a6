"""The same images in the form each side wants them, and what an artefact can take."""

from __future__ import annotations

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.jobs.common.samples import normalised, structured_images
from dpt_deploy.scenes.seeds import PARITY


def reference_input(sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes (B, H, W, 3) as the PyTorch reference takes them: normalised float32 (B, 3, H, W)."""
    return {INPUT_FLOAT: normalised(images, sidecar.image.mean, sidecar.image.std)}


def model_feed(sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes (B, H, W, 3) as the artefact takes them."""
    name = sidecar.inputs[0].name
    if sidecar.input_kind == "uint8":
        return {name: images}
    return {name: normalised(images, sidecar.image.mean, sidecar.image.std)}


def parity_images(precision: str, batch: int, size: Size) -> np.ndarray:
    """Images to compare outputs on, bytes (B, H, W, 3): patterns with every contrast and frequency.

    For a quantised graph rendered scenes: its ranges are those of images as they occur; a pattern would be clipped.
    """
    if find_precision(precision).quantised is None:
        return structured_images(batch, size.height, size.width)
    with extra("export", purpose="rendering scenes"):
        from dpt_deploy.scenes.render import render_scene
    scenes = [render_scene(seed, height=size.height, width=size.width) for seed in PARITY[:batch]]
    return np.stack([scene.image for scene in scenes])
