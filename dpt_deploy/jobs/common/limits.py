"""Whether a size can be run: by the artefact's shapes, and by the memory there is."""

from __future__ import annotations

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.environment import available_memory
from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.core.profile import choose_profile
from dpt_deploy.core.size import Size, check_size
from dpt_deploy.core.spec import ModelSpec


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
