"""Files that are either whole or absent: written in a private folder next to the target, then moved over it."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dpt_deploy.core.disk.private import HIDDEN, SCRATCH, hidden_folder, sweep
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
}
_NO_NAME = {
    errno.ENAMETOOLONG: ("the name is too long for the file system", "use a shorter name"),
    errno.ELOOP: ("a symbolic link leads to itself", "remove the link, or name another path"),
}


def name_error(path: str | Path, error: OSError) -> UsageError | None:
    """The error of a path that no file can have: its name is too long, or a link leads to itself. Else None."""
    if error.errno not in _NO_NAME:
        return None
    found, hint = _NO_NAME[error.errno]
    return UsageError(f"{path}: {found}", hint=hint)


def check_text_path(path: Path) -> None:
    """Raise :class:`UsageError` if a path is no UTF-8 text, which most libraries that open files need."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{path} is a path that is no UTF-8 text", hint="rename the file or its folder") from exc


def resolved(path: Path) -> Path:
    """The absolute path behind symbolic links. A link that leads to itself stays as it is, and cannot be opened."""
    return Path(os.path.realpath(path))


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` inside the block into the error of writing ``path``.

    Raises:
        UsageError: no file can have this path (:func:`name_error`).
        ResourceError: anything else.
    """
    try:
        yield
    except OSError as exc:
        if unusable := name_error(path, exc):
            raise unusable from exc
        reason = exc.strerror or str(exc)
        hint = _HINTS.get(exc.errno or 0, "write to another folder")
        raise ResourceError(f"cannot write {path}: {reason}", hint=hint) from exc


def ensure_folder(path: Path) -> list[Path]:
    """Create the folder ``path`` and its parents; return those that were created, innermost first.

    What killed runs left in it, and in the system's temporary folder, is removed.

    Raises:
        UsageError: ``path`` is a file.
        ResourceError: the folder cannot be created.
    """
    with write_errors(path):
        _refuse_file(path)
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        make_folder(path)
    sweep(path, HIDDEN)
    sweep(Path(tempfile.gettempdir()), SCRATCH)
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
        _refuse_file(path)
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; expected a folder", hint="name another folder")
    if path.is_symlink() and not path.exists():
        raise UsageError(
            f"{path} is a symbolic link that leads nowhere; expected a folder", hint="remove it, or name another folder"
        )


@contextmanager
def atomic_path(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield the path of an empty file with the suffix of ``path``; move it to ``path`` on success.

    The file lies in a private folder next to ``path``, which is removed in any case. A symbolic link is followed. The
    permissions are those of ``mode`` and the umask, whatever wrote the file. It survives a killed process, but not a
    power cut: it is not synced to disk.

    Raises:
        UsageError: ``path`` exists and is not a regular file, or no file can have this name.
        ResourceError: the file cannot be written, or not be moved to ``path``.
    """
    with write_errors(path):
        target = resolved(path)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(target.lstat().st_mode):
                raise UsageError(f"{path} is not a regular file", hint="name a file to write")
    with ExitStack() as stack:
        with write_errors(path):
            temporary = stack.enter_context(hidden_folder(target.parent)) / f".new{target.suffix}"
            allowed = _created(temporary, mode)
        yield temporary
        with write_errors(path):
            temporary.chmod(allowed)
            temporary.replace(target)


def _created(path: Path, mode: int) -> int:
    """Create an empty file; return its permissions after the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Raises:
        UsageError: ``path`` exists and is not a regular file, or no file can have this name.
        ResourceError: the file cannot be written.
    """
    with atomic_path(path, mode=mode) as temporary, write_errors(path):
        temporary.write_bytes(data)
