"""Two folders change places in one step, so that a kill leaves one or the other in its place."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD: paths are relative to the working directory
# What kernels and file systems without it return, and C libraries without the function.
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def exchange(one: Path, other: Path) -> None:
    """Let ``one`` and ``other``, which both exist on one file system, change places.

    Where the system cannot do that at once it takes two renames, and a kill between them leaves ``other`` absent.

    Raises:
        OSError: either is missing, or they cannot be moved.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) != 0:
        code = errno.ENOSYS if rename is None else ctypes.get_errno()
        if code not in _UNABLE:
            raise OSError(code, os.strerror(code), str(other))
        aside = one.with_name(f"{one.name}.former")
        other.rename(aside)
        one.rename(other)
        aside.rename(one)
