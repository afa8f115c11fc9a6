"""Golden tensors: the size they are made at, PyTorch's output there, and the check against them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, TensorSpec
from dpt_deploy.jobs.common.inputs import reference_input
from dpt_deploy.jobs.common.runners import open_runner, reference_runtime
from dpt_deploy.jobs.verify.cases import paired_outputs, smallest_span
from dpt_deploy.jobs.verify.compare import ParityComparison, compare_matrix

if TYPE_CHECKING:
    from dpt_deploy.model.dpt import DPT


GOLDEN_MULTIPLES = (3, 4)  # of the stride: small, not square


GOLDEN_BATCH = 2


def golden_size(sidecar: Sidecar) -> tuple[int, Size]:
    """Batch and size of the golden tensors."""
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    high, wide = GOLDEN_MULTIPLES
    return (1, static) if static else (GOLDEN_BATCH, Size(high * stride, wide * stride))


def reference_output(model: DPT, sidecar: Sidecar, images: np.ndarray) -> np.ndarray:
    """What PyTorch makes of ``images``, in the form the artefact returns it (labels where it returns labels)."""
    from dpt_deploy.runtime.pytorch import TorchRunner

    inputs = [TensorSpec(INPUT_FLOAT, "float32", ("batch", 3, "height", "width"))]
    with TorchRunner(model, inputs, sidecar.outputs) as runner:
        (output,) = runner.infer(reference_input(sidecar, images)).values()
    return output.argmax(axis=1).astype(np.int32) if sidecar.output_kind == "labels" else output


def golden_report(artifact: Artifact, runtime: str | None = None) -> ParityComparison:
    """Compare with the golden tensors stored next to the artefact; only the runtime is needed."""
    sidecar = artifact.sidecar
    if artifact.golden_path is None:
        raise BadFileError(f"{artifact.path} has no golden tensors", hint="export it again")
    stored = read_golden(artifact.golden_path)
    images, reference = stored["images"], stored["output"]
    size = Size(*images.shape[1:3])
    with open_runner(artifact, runtime or reference_runtime(sidecar)) as runner:
        outputs = paired_outputs(runner, sidecar, lambda _images: reference, images=images)
        return compare_matrix(outputs, [(len(images), size)], sidecar.allowed, min_span=smallest_span(sidecar))


def read_golden(path: Path) -> dict[str, np.ndarray]:
    """``images`` (B, H, W, 3) and the reference's ``output``; raises :class:`BadFileError` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("images", "output")}
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as exc:
        raise BadFileError(f"golden tensors {path} cannot be read ({exc})", hint="export again") from exc
