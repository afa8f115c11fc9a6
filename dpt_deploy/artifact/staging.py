"""Make an artefact in a private folder next to its place, then move it there: whole, or not at all.

Everything that takes time or disk space happens in the private folder; the commit consists of renames only. The folder
is locked while its process lives. So two exports of one artefact cannot interleave their renames, and the folder of a
killed process can be recognised and removed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, read_sidecar, sidecar_path
from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.core.files import ensure_folder, make_folder, write_errors

if sys.platform != "win32":
    import fcntl

_LOCK = "lock"


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Make a private folder next to ``path`` for the artefact; it is removed however the block ends.

    Leftovers of a killed run of the same artefact are removed first. Parent folders made for it are removed after a
    failure.

    Raises:
        UsageError: ``path`` is a folder, or its folder is a file.
        ResourceError: the folder cannot be written, or another process is exporting the same artefact.
    """
    made = ensure_folder(path.parent)
    try:
        _refuse_folders(path, sidecar_path(path))
        with _locked(path.parent / f".{path.name}.partial", path) as folder:
            yield folder
    finally:
        with suppress(OSError):  # not empty: the artefact is in it
            for parent in made:
                parent.rmdir()


def commit(path: Path, folder: Path, sidecar: Sidecar) -> Artifact:
    """Move the payloads from ``folder`` to their place next to ``path``, and then the sidecar.

    An earlier artefact is replaced. Its sidecar goes first, so that a mixture never looks whole. Payloads that the
    new artefact does not have are removed last.
    """
    names = [payload.name for payload in sidecar.payloads]
    _refuse_folders(*(path.with_name(name) for name in names))
    mark = folder / sidecar_path(path).name
    with write_errors(path):
        mark.write_text(sidecar.to_json(), encoding="utf-8")
        stale = set(_payload_names(path)) - set(names)
        sidecar_path(path).unlink(missing_ok=True)
        for name in names:
            (folder / name).replace(path.with_name(name))
        mark.replace(sidecar_path(path))
        for name in stale:
            path.with_name(name).unlink(missing_ok=True)
    return Artifact(path, sidecar)


def _payload_names(path: Path) -> list[str]:
    with suppress(BadFileError):
        return [payload.name for payload in read_sidecar(path).payloads]
    return []


def _refuse_folders(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder; a file of the artefact belongs there", hint="remove it, or name another -o"
            )


@contextmanager
def _locked(folder: Path, path: Path) -> Iterator[Path]:
    """Yield ``folder``, empty except for its lock, which this process holds."""
    with write_errors(path):
        while (lock := _acquire(folder, path)) is None:
            pass
    with lock:
        try:
            with write_errors(path):
                _clear(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _acquire(folder: Path, path: Path) -> IO[str] | None:
    """Lock the lock file; None if its last owner removed it meanwhile."""
    make_folder(folder)  # with its parents: a failed export of a neighbour may just have removed them
    name = folder / _LOCK
    try:
        lock = name.open("w")
    except FileNotFoundError:
        return None
    if not _try_lock(lock):
        lock.close()
        raise ResourceError(
            f"{path} is being exported by another process", hint="wait for it to end, or export to another folder"
        )
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock.fileno()), name.stat()):
            return lock
    lock.close()
    return None


def _try_lock(lock: IO[str]) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: the user must not export one artefact twice at once
            return True
    return True


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()
