"""The same images in the form each side wants them, and what an artefact can take."""

from __future__ import annotations

import numpy as np

from dpt_deploy.core.artifact import Sidecar
from dpt_deploy.core.environment import available_memory
from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.profile import choose_profile
from dpt_deploy.core.spec import INPUT_FLOAT, QUANTISED, ModelSpec, Size, check_size
from dpt_deploy.parity.samples import normalised, structured_images

PARITY_SCENE = 4_200_000  # the first of those that outputs are compared on; nothing else uses them


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
    if precision not in QUANTISED:
        return structured_images(batch, size.height, size.width)
    with extra("export", purpose="rendering scenes"):
        from dpt_deploy.study.scenes import render_scene
    seeds = range(PARITY_SCENE, PARITY_SCENE + batch)
    return np.stack([render_scene(seed, height=size.height, width=size.width).image for seed in seeds])


def check_request(sidecar: Sidecar, size: Size, batch: int = 1) -> None:
    """Raise unless the artefact can take ``batch`` images of ``size``.

    Raises:
        UsageError: not a multiple of the stride, not the one size of a static artefact, or outside the profiles of an
            engine.
        ResourceError: more than the memory of this machine.
    """
    check_size(size, stride=sidecar.shapes.stride)
    if sidecar.engine:
        choose_profile(sidecar.engine.profiles, batch, size)
        return
    static = sidecar.shapes.static_size
    if static and (size, batch) != (static, 1):
        raise UsageError(
            f"this artefact is static at {static}, batch 1; it cannot run {size}, batch {batch}",
            hint="export it without --static",
        )
    check_memory(sidecar.model, size, batch)


def check_memory(model: ModelSpec, size: Size, batch: int = 1) -> None:
    """Refuse what cannot fit, before the system runs out of memory and kills without a word.

    The bound is a low one: the input in float32 and the decoder's widest map, at half resolution. What is let through
    may still not fit.

    Raises:
        ResourceError: it needs more than there is.
    """
    needed = batch * size.height * size.width * (12 + model.fusion_channels)
    there = available_memory()
    if there is not None and needed > there:
        raise ResourceError(
            f"out of memory: size {size}, batch {batch} needs more than {needed / 1e9:,.0f} GB; "
            f"{there / 1e9:,.0f} GB are free",
            hint="use a smaller size or batch",
        )
