"""Folders and files under names that others can foresee: never reached through a link, and used only if they are ours.

Another user, or a link put there by accident, may wait at such a name. So folders are created with ``mkdir``, files
are opened with ``O_NOFOLLOW``, and what already exists is accepted only if it is real, belongs to this user and cannot
be written by others. Anything else is an error. A private folder is locked while its process lives: by that, the
folder of a killed run is told from that of a live one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, overload

from dpt_deploy.core.errors import DptError, ResourceError, UsageError

HIDDEN = ".tmp-"  # prefix of private folders next to the files that are written
SCRATCH = "dpt-deploy-"  # prefix of those in the system's temporary folder
_LOCK = "lock"
_TOKEN_BYTES = 8
_GROUP, _OTHERS = 0o020, 0o002
_ATTEMPTS = 100  # another process may remove the folder between two calls


class PrivateFolder:
    """A private folder whose lock this process holds; leaving the ``with`` block releases the lock only.

    ``is_exclusive`` is False on a file system without locks, where other processes cannot be noticed.
    """

    def __init__(self, path: Path, folder: int, lock: int, *, is_exclusive: bool) -> None:
        self.path, self.is_exclusive = path, is_exclusive
        self._folder, self._lock = folder, lock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)
        os.close(self._folder)

    def clear(self) -> None:
        """Remove everything but the lock, and nothing behind a link; raises :class:`OSError`."""
        with os.scandir(self._folder) as entries:
            found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries if entry.name != _LOCK}
        for name, is_folder in found.items():
            if is_folder:
                shutil.rmtree(name, dir_fd=self._folder)
            else:
                os.unlink(name, dir_fd=self._folder)

    def remove(self) -> None:
        """Remove the folder, its lock last, so that no other process takes it half-removed."""
        with suppress(OSError):
            self.clear()
            os.unlink(_LOCK, dir_fd=self._folder)
            self.path.rmdir()


@overload
def hold_folder(path: Path, *, wait: Literal[True], create: bool = ..., parents: bool = ...) -> PrivateFolder: ...


@overload
def hold_folder(
    path: Path, *, wait: Literal[False] = ..., create: bool = ..., parents: bool = ...
) -> PrivateFolder | None: ...


def hold_folder(path: Path, *, wait: bool = False, create: bool = True, parents: bool = False) -> PrivateFolder | None:
    """Create the private folder ``path`` if it is missing, and lock it; None if another process holds it.

    With ``wait`` this returns when the other process has ended. Without ``create`` a missing lock is an error. With
    ``parents`` missing parent folders are made.

    Raises:
        UsageError: something else lies there.
        OSError: the folder cannot be created or read.
    """
    for _ in range(_ATTEMPTS):
        made = create and _make(path, parents=parents)
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if create:
                continue
            raise
        except NotADirectoryError:  # a file, or a link
            _refuse(path, os.lstat(path), folder=True)
            raise
        try:
            held = _locked(path, folder, made=made, wait=wait, create=create)
        except FileNotFoundError:  # its last owner has just removed it
            os.close(folder)
            if not create:
                raise
        except BaseException:
            os.close(folder)
            raise
        else:
            if held is None:
                os.close(folder)
            return held
    raise FileNotFoundError(errno.ENOENT, "the folder is removed again and again", str(path))


def _make(path: Path, *, parents: bool) -> bool:
    try:
        path.mkdir(0o700)
    except FileExistsError:
        return False
    except FileNotFoundError:  # a failed run of a neighbour may just have removed the parents
        if not parents:
            raise
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        return False
    return True


def _locked(path: Path, folder: int, *, made: bool, wait: bool, create: bool) -> PrivateFolder | None:
    """Lock an open folder; raises :class:`FileNotFoundError` if it is no longer there."""
    status = os.fstat(folder)
    if not (made and _keeps_no_owners(path, status)):
        _refuse(path, status, folder=True)
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    try:
        lock = os.open(_LOCK, flags, 0o600, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _refusal(path / _LOCK, "is not a regular file", "a lock file") from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise _refusal(path / _LOCK, "is not a regular file", "a lock file")
        free, exclusive = _try_lock(lock, wait=wait)
        if free and not os.path.samestat(os.fstat(lock), os.stat(_LOCK, dir_fd=folder, follow_symlinks=False)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path / _LOCK))
    except BaseException:
        os.close(lock)
        raise
    if not free:
        os.close(lock)
        return None
    return PrivateFolder(path, folder, lock, is_exclusive=exclusive)


def _try_lock(lock: int, *, wait: bool) -> tuple[bool, bool]:
    """Lock a file: True if no other process holds it, and True if the file system has locks at all."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False, True
    except OSError:  # a file system without locks: the user must not write one thing twice at once
        return True, False
    return True, True


def _keeps_no_owners(path: Path, status: os.stat_result) -> bool:
    """True if a folder that was just made looks foreign because its file system has no owners or permissions."""
    return status.st_uid == os.geteuid() or not _others_may_write(path.parent.stat())


def _others_may_write(status: os.stat_result) -> bool:
    """True if others may write. A group with the number of its user is that user's own."""
    group = _GROUP if status.st_gid != status.st_uid else 0
    return bool(status.st_mode & (_OTHERS | group))


def _refuse(path: Path, status: os.stat_result, *, folder: bool) -> None:
    kind = "a folder" if folder else "a file"
    found = ""
    if stat.S_ISLNK(status.st_mode):
        found = "is a symbolic link"
    elif not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        found = f"is not {kind}" if folder else "is not a regular file"
    elif status.st_uid != os.geteuid():
        found = "belongs to another user"
    elif _others_may_write(status):
        found = "can be written by other users"
    if found:
        raise _refusal(path, found, kind)


def _refusal(path: Path, found: str, kind: str) -> UsageError:
    hint = "look at it and remove it, or write to another folder"
    if found.startswith("can be"):
        hint = f"if it is yours: chmod go-w {path}; or write to another folder"
    return UsageError(f"{path} {found}; expected {kind} that only you can write to", hint=hint)


def own_folder(path: Path) -> None:
    """Create the folder ``path`` if it is missing; accept it only if it is real, and only this user can write to it.

    Raises:
        UsageError: something else lies there.
        OSError: it cannot be created.
    """
    with suppress(FileExistsError):
        path.mkdir(0o777 & ~(_GROUP | _OTHERS))
        return
    _refuse(path, os.lstat(path), folder=True)


def is_own_folder(path: Path) -> bool:
    """True if only this user can write to the folder ``path``; a link to such a folder counts."""
    try:
        _refuse(path, path.stat(), folder=True)
    except (UsageError, OSError):
        return False
    return True


def check_own_file(path: Path) -> None:
    """Raise :class:`UsageError` if something lies at ``path`` that :func:`open_own_file` would refuse."""
    with suppress(FileNotFoundError):
        _refuse(path, path.lstat(), folder=False)


def open_own_file(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a file as :func:`os.open` does, but neither through a link nor if others own it or may write to it.

    Raises:
        UsageError: something else lies there.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            _refuse(path, os.lstat(path), folder=False)
        raise
    try:
        _refuse(path, os.fstat(descriptor), folder=False)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sweep(folder: Path, prefix: str) -> None:
    """Remove the private folders with this prefix that killed runs left in ``folder``; those of live runs stay."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if _is_hidden_folder(entry, prefix)]
    except OSError:
        return
    for name in found:
        try:
            held = hold_folder(folder / name, create=False)
        except FileNotFoundError:
            with suppress(OSError):
                (folder / name).rmdir()  # killed before there was a lock; a folder with content stays
        except (OSError, DptError):
            continue
        else:
            if held is not None:
                with held:
                    if held.is_exclusive:
                        held.remove()


def _is_hidden_folder(entry: os.DirEntry[str], prefix: str) -> bool:
    name, _, token = entry.name.partition(prefix)
    named = not name and re.fullmatch(rf"[0-9a-f]{{{2 * _TOKEN_BYTES}}}", token) is not None
    return named and entry.is_dir(follow_symlinks=False)


@contextmanager
def hidden_folder(parent: Path, prefix: str = HIDDEN) -> Iterator[Path]:
    """Yield a new private folder in ``parent``, which is removed when the block ends; raises :class:`OSError`."""
    # Another process that sweeps may lock the folder between its creation and our lock: wait, and it is made again.
    with hold_folder(parent / f"{prefix}{secrets.token_hex(_TOKEN_BYTES)}", wait=True) as held:
        try:
            yield held.path
        finally:
            held.remove()


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new private folder in ``parent``; leftovers of killed runs are removed first.

    Without ``parent`` it lies in the system's temporary folder.

    Raises:
        ResourceError: the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            place, prefix = (parent, HIDDEN) if parent else (Path(tempfile.gettempdir()), SCRATCH)
            sweep(place, prefix)
            path = stack.enter_context(hidden_folder(place, prefix))
        except OSError as exc:
            raise ResourceError(
                f"cannot write temporary files to {parent or 'the temporary folder'}: {exc.strerror or exc}",
                hint="free some disk space, or set TMPDIR to another folder",
            ) from exc
        yield path
