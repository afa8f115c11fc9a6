"""Golden tensors: images and the reference's outputs, stored next to an artefact."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.jobs.common.inputs import ReferenceDescription

GOLDEN_MULTIPLES = (3, 4)  # of the stride: small, not square
GOLDEN_BATCH = 2


def golden_size(sidecar: ReferenceDescription) -> tuple[int, Size]:
    """Batch and size of the golden tensors."""
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    high, wide = GOLDEN_MULTIPLES
    return (1, static) if static else (GOLDEN_BATCH, Size(high * stride, wide * stride))


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
