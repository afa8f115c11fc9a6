"""Golden tensors: images and the reference's outputs, stored next to an artefact."""

from __future__ import annotations

import math
import struct
import tokenize
import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.limits import GOLDEN
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.jobs.common.inputs import ReferenceDescription

GOLDEN_MULTIPLES = (3, 4)  # of the stride: small, not square
GOLDEN_BATCH = 2
_IMAGES_RANK, _CHANNELS = 4, 3
_MAX_HEADER = 10_000  # bytes of a header that NumPy evaluates
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    SyntaxError,
    UnicodeError,
    RecursionError,
    MemoryError,
    BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
)


def golden_size(sidecar: ReferenceDescription) -> tuple[int, Size]:
    """Batch and size of the golden tensors."""
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    high, wide = GOLDEN_MULTIPLES
    batch = 1 if sidecar.shapes.single else GOLDEN_BATCH
    return batch, static or Size(high * stride, wide * stride)


def golden_arrays(images: np.ndarray, outputs: Tensors) -> dict[str, np.ndarray]:
    """The arrays of a golden file: ``images``, and ``output``, or ``output.NAME`` for each of several outputs."""
    if len(outputs) == 1:
        return {"images": images, "output": next(iter(outputs.values()))}
    return {"images": images, **{f"output.{name}": values for name, values in outputs.items()}}


def read_golden(path: Path, outputs: Sequence[TensorSpec]) -> tuple[np.ndarray, Tensors]:
    """Images (B, H, W, 3) and the reference's outputs by name.

    Raises:
        BadFileError: the file is missing, damaged or larger than the limit, or its arrays are not those of ``outputs``.
    """
    keys = {each.name: "output" if len(outputs) == 1 else f"output.{each.name}" for each in outputs}
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as stored:
            images, found = stored["images"], {name: stored[key] for name, key in keys.items()}
        _check_arrays(images, found, outputs)
    except _DAMAGE as exc:
        raise BadFileError(f"golden tensors {path} cannot be read ({exc})", hint="export again") from exc
    return images, found


def _check_sizes(path: Path) -> None:
    """Hold the arrays to the limit before one is read: by the size of the members, and by the shapes they declare."""
    needed = 0
    with ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream, max_header_size=_MAX_HEADER)
            needed += max(member.file_size, math.prod(shape) * dtype.itemsize)
    GOLDEN.check(path, needed)


def _check_arrays(images: np.ndarray, found: Tensors, outputs: Sequence[TensorSpec]) -> None:
    """Raise :class:`ValueError` unless images are bytes, and each output has the rank, batch and type of its record."""
    if images.ndim != _IMAGES_RANK or images.shape[3] != _CHANNELS or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"images are {images.dtype}{list(images.shape)}; expected uint8 (batch, height, width, 3)")
    for each in outputs:
        array = found[each.name]
        named = dict(zip(("batch", "height", "width"), images.shape, strict=False))
        wanted = [named.get(dim, dim) if isinstance(dim, str) else dim for dim in each.shape]
        fits = [isinstance(size, str) or size == found for size, found in zip(wanted, array.shape, strict=False)]
        if array.ndim != len(wanted) or not all(fits) or array.dtype.kind not in "fiu" or not array.size:
            raise ValueError(f"{each.name} is {array.dtype}{list(array.shape)}; expected {each.dtype}{wanted}")
