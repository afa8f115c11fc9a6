"""Check that a size can be run: by the artefact's shapes, and by the available memory."""

from __future__ import annotations

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.environment import available_memory
from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.core.profile import choose_profile
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import ModelSpec


def check_request(sidecar: Sidecar, size: Size, batch: int = 1) -> None:
    """Check that the artefact takes ``batch`` images of ``size``.

    Raises:
        UsageError: not a multiple of the stride, not the one size of a static artefact, or outside the profiles of an
            engine.
        ResourceError: more than the memory of this machine.
    """
    sidecar.model.check_size(size)
    if sidecar.engine:
        choose_profile(sidecar.engine.profiles, batch, size)
        return
    static = sidecar.shapes.static_size
    if sidecar.shapes.single and (size, batch) != (static, 1):
        raise UsageError(
            f"this artefact is static at {static}, batch 1; it cannot run {size}, batch {batch}",
            hint="export it without --static",
        )
    check_memory(sidecar.model, size, batch)


def check_memory(model: ModelSpec, size: Size, batch: int = 1) -> None:
    """Refuse a size that cannot fit, before the system runs out of memory and kills the process.

    The bound is low: the input in float32 and the decoder's widest map, at half resolution. A size that passes may
    still not fit.

    Raises:
        ResourceError: it needs more memory than is free.
    """
    needed = batch * size.height * size.width * (12 + model.fusion_channels)
    free = available_memory()
    if free is not None and needed > free:
        raise ResourceError(
            f"out of memory: size {size}, batch {batch} needs more than {needed / 1e9:,.0f} GB; "
            f"{free / 1e9:,.0f} GB are free",
            hint="use a smaller size or batch",
        )
