"""The same images in the form each side wants them."""

from __future__ import annotations

import numpy as np

from dpt_deploy.core.artifact import Sidecar
from dpt_deploy.core.spec import INPUT_FLOAT
from dpt_deploy.parity.samples import normalised


def reference_input(sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes (B, H, W, 3) as the PyTorch reference takes them: normalised float32 (B, 3, H, W)."""
    return {INPUT_FLOAT: normalised(images, sidecar.image.mean, sidecar.image.std)}


def model_feed(sidecar: Sidecar, images: np.ndarray) -> dict[str, np.ndarray]:
    """Bytes (B, H, W, 3) as the artefact takes them."""
    name = sidecar.inputs[0].name
    if sidecar.input_kind == "uint8":
        return {name: images}
    return {name: normalised(images, sidecar.image.mean, sidecar.image.std)}
