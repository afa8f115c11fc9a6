"""Golden tensors of an engine, for targets that have neither PyTorch nor the ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import DptError, UsageError
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.optional import load_attribute
from dpt_deploy.core.profile import Profile, choose_profile
from dpt_deploy.core.progress import say
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import parity_images
from dpt_deploy.jobs.verify.golden import GOLDEN_BATCH, golden_arrays, read_golden


def write_golden(source: Artifact, profiles: Sequence[Profile], plan: Path) -> Path | None:
    """Write golden tensors next to the plan: those of the ONNX file if the engine takes their shape, else new ones.

    New ones need PyTorch and the checkpoint. Without these the plan gets no golden tensors, and a message says so.
    """
    golden = plan.with_name(f"{plan.name}.golden.npz")
    sidecar = source.sidecar
    stored = read_golden(source.path.with_name(sidecar.golden), sidecar.outputs) if sidecar.golden else None
    if stored is None or not _takes(profiles, stored[0]):
        try:
            stored = _new_golden(sidecar, profiles)
        except DptError as exc:
            say(f"without golden tensors, which `verify --golden` needs: {exc}")
            return None
    with write_errors(golden), golden.open("wb") as stream:  # not compressed: such floats gain little by it
        np.savez(stream, **golden_arrays(*stored))  # type: ignore[arg-type]  # NumPy's hint lacks **arrays
    return golden


def _takes(profiles: Sequence[Profile], images: np.ndarray) -> bool:
    try:
        choose_profile(profiles, len(images), Size(*images.shape[1:3]))
    except UsageError:
        return False
    return True


def _new_golden(sidecar: Sidecar, profiles: Sequence[Profile]) -> tuple[np.ndarray, Tensors]:
    """Images and PyTorch's outputs at the smallest shape of the engine; two images if it takes two."""
    reference_of, reference_outputs = (  # imported late: an engine is also built without PyTorch
        load_attribute(f"dpt_deploy.jobs.common.reference:{name}", which="export", purpose="making golden tensors")
        for name in ("reference_of", "reference_outputs")
    )
    smallest = min(profiles, key=lambda profile: profile.low[1] * profile.low[2])
    size = Size(*smallest.low[1:])
    paired = any(profile.takes(GOLDEN_BATCH, size) for profile in profiles)
    images = parity_images(sidecar.precision, GOLDEN_BATCH if paired else 1, size)
    return images, reference_outputs(reference_of(sidecar, None), sidecar, images)
