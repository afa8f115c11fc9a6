"""Golden tensors: the size they are made at, PyTorch's output there, and the check against them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.runner import Tensors
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


def reference_outputs(model: DPT, sidecar: Sidecar, images: np.ndarray) -> Tensors:
    """PyTorch's outputs for ``images``, by the names and in the form of the artefact (labels where it has ArgMax)."""
    from dpt_deploy.runtime.pytorch import TorchRunner

    inputs = [TensorSpec(INPUT_FLOAT, "float32", ("batch", 3, "height", "width"))]
    with TorchRunner(model, inputs, sidecar.outputs) as runner:
        found = runner.infer(reference_input(sidecar, images))
    for output in sidecar.outputs:
        if output.kind.values == "labels" and found[output.name].ndim == len(output.shape) + 1:  # scores of PyTorch
            found[output.name] = found[output.name].argmax(axis=1).astype(np.int32)
    return found


def golden_report(artifact: Artifact, runtime: str | None = None) -> ParityComparison:
    """Compare with the golden tensors stored next to the artefact; only the runtime is needed."""
    sidecar = artifact.sidecar
    if artifact.golden_path is None:
        raise BadFileError(f"{artifact.path} has no golden tensors", hint="export it again")
    images, reference = read_golden(artifact.golden_path, sidecar.outputs)
    size = Size(*images.shape[1:3])
    with open_runner(artifact, runtime or reference_runtime(sidecar)) as runner:
        outputs = paired_outputs(runner, sidecar, lambda _images: reference, images=images)
        return compare_matrix(outputs, [(len(images), size)], sidecar.outputs, min_span=smallest_span(sidecar))


def golden_arrays(images: np.ndarray, outputs: Tensors) -> dict[str, np.ndarray]:
    """The arrays of a golden file: ``images``, and ``output``, or ``output.NAME`` for each of several outputs."""
    if len(outputs) == 1:
        return {"images": images, "output": next(iter(outputs.values()))}
    return {"images": images, **{f"output.{name}": values for name, values in outputs.items()}}


def read_golden(path: Path, outputs: Sequence[TensorSpec]) -> tuple[np.ndarray, Tensors]:
    """Images (B, H, W, 3) and the reference's outputs by name.

    Raises:
        BadFileError: the file is missing or damaged, or lacks one of the ``outputs``.
    """
    keys = {each.name: "output" if len(outputs) == 1 else f"output.{each.name}" for each in outputs}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["images"], {name: stored[key] for name, key in keys.items()}
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as exc:
        raise BadFileError(f"golden tensors {path} cannot be read ({exc})", hint="export again") from exc
