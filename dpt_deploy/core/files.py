"""Files that are either whole or absent: written next to the target under another name, then moved over it."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpt_deploy.core.errors import ResourceError, UsageError

_ATTEMPTS = 20  # another process may remove the folder between two calls
_HINTS = {
    errno.ENOSPC: "free some disk space, or write elsewhere",
    errno.EDQUOT: "the disk quota is used up: free some space, or write elsewhere",
    errno.EFBIG: "the file-size limit is reached (see ulimit -f)",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "a part of the path is a file: name another folder",
    errno.EIO: "the disk reports an error: write elsewhere, and check it",
    errno.EACCES: "check the folder's permissions, or write elsewhere",
    errno.EPERM: "check the folder's permissions, or write elsewhere",
    errno.EROFS: "the file system is read-only: write elsewhere",
    errno.ENAMETOOLONG: "use a shorter file name",
}


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` inside the block into a :class:`ResourceError` about writing ``path``."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        hint = _HINTS.get(exc.errno or 0, "write to another folder")
        raise ResourceError(f"cannot write {path}: {reason}", hint=hint) from exc


def ensure_folder(path: Path) -> list[Path]:
    """Create the folder ``path`` and its parents; return those that were created, innermost first.

    Raises:
        UsageError: ``path`` is a file.
        ResourceError: the folder cannot be created.
    """
    with write_errors(path):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; expected a folder", hint="name another folder")
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        make_folder(path)
    return made


def make_folder(path: Path) -> None:
    """Create a folder and its parents, even if another process is removing them; raises :class:`OSError`."""
    for attempt in range(_ATTEMPTS):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError):
            if path.is_file() or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def check_folder(path: Path) -> None:
    """Raise the errors of :func:`ensure_folder` that can be known without creating anything."""
    with write_errors(path):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not path.is_dir() and there == path:
            raise UsageError(f"{path} is a file; expected a folder", hint="name another folder")
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path`` with its suffix; move it to ``path`` on success, remove it on failure.

    A symbolic link is followed. The file survives a killed process, but not a power cut: it is not synced to disk.

    Raises:
        UsageError: ``path`` exists and is not a regular file.
        ResourceError: the file cannot be moved to ``path``.
    """
    with write_errors(path):
        target = path.resolve()
        if target.exists() and not target.is_file():
            raise UsageError(f"{path} is not a regular file", hint="name a file to write")
    temporary = target.with_name(f".tmp-{secrets.token_hex(8)}{target.suffix}")
    try:
        yield temporary
        with write_errors(path):
            temporary.replace(target)
    finally:
        with suppress(OSError):  # its folder is gone or was never there: nothing is left to remove
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Raises:
        UsageError: ``path`` exists and is not a regular file.
        ResourceError: the file cannot be written.
    """
    with atomic_path(path) as temporary, write_errors(path):
        temporary.write_bytes(data)
