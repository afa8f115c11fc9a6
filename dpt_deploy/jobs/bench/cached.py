"""Default artefacts of a benchmark: a network exported or built once, offline, into the cache folder."""

from __future__ import annotations

from collections.abc import Sequence

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.environment import gpu_devices
from dpt_deploy.core.errors import IncompatibleError
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.profile import SizeRange
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.build.build import build_engine_artifact
from dpt_deploy.jobs.common.weights import shipped_for
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.checkpoints import published


def cached_artifact(backbone: str, sizes: Sequence[Size] = (), *, precision: str = FP32) -> Artifact:
    """Return the cached export of a network, made once, offline, with the shipped weights or else random ones.

    Raises:
        UsageError: no such network, or it does not take one of ``sizes`` (before anything is exported).
    """
    recipe = load_recipe(backbone)
    for size in sizes:
        recipe.model.check_size(size)
    folder = published.cache_folder().parent / "models"
    weights = None if shipped_for(recipe) else "random"
    return export_model(ExportRequest(recipe, weights=weights, precision=precision, allow_poor=True), folder).artifact


def cached_engine(backbone: str, sizes: Sequence[Size], batches: Sequence[int]) -> Artifact:
    """Return the cached FP16 engine of a network for these shapes, built once, offline, on this machine's GPU.

    Raises:
        IncompatibleError: there is no GPU; nothing is exported or built.
    """
    if not gpu_devices():
        raise IncompatibleError(
            "an engine is timed on the GPU that runs it; the driver finds none",
            hint="leave trt out of --runtime, or run this on a machine with an NVIDIA GPU",
        )
    model = cached_artifact(backbone, sizes, precision="fp16")
    ranges = [SizeRange(size, size) for size in sizes]
    out, largest = model.path.parent, max(batches)
    return build_engine_artifact(model.path, out, res=ranges, batch=largest, measure=False).artifact
