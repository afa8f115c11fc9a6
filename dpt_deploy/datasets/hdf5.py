"""HDF5 files. Needs the extra ``study``; h5py is imported when a file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from dpt_deploy.core import limits
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.optional import extra

# Raised by h5py for a file that cannot be opened, a missing array, or a damaged chunk, type or header.
_DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError)


def read_array(file: Any, key: str) -> Any:
    """Read the array ``key`` of an open file.

    Raises:
        BadFileError: it takes more memory than an image may.
    """
    found = file[key]
    limits.IMAGE.check(f"{file.filename}: {key}", found.nbytes)
    return found[()]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open ``path`` as an ``h5py.File``; an error inside the block becomes a :class:`BadFileError`.

    MATLAB 7.3 files are HDF5 files with the axes of every array reversed.
    """
    with extra("study", purpose="reading HDF5 files"):
        h5py = import_module("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _DAMAGE as exc:
        raise BadFileError(
            f"cannot read {path}: {str(exc).splitlines()[0]}",
            hint="the file is missing, incomplete or of another kind: download it again",
        ) from exc
