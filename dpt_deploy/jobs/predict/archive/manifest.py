"""The manifest of an archive: a JSON line for each image, added when its results are written.

A line is added by one call, so a kill leaves at most one incomplete line, at the end. Readers ignore it. If an image
has several lines, the last one counts; a run that ends normally leaves one line each, in order of their paths. Only
one process at a time writes to a manifest.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dpt_deploy.core.disk.private import open_own_file
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import atomic_path, ensure_folder, write_errors
from dpt_deploy.core.progress import say

DONE, FAILED = "done", "failed"
_BEGIN = b'{"path":'
_ATTEMPTS = 10  # the file may be replaced between opening and locking it


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """The result for one image of an archive.

    Attributes:
        path: relative to the archive, with slashes.
        size_bytes: of the image file.
        modified: of the image file, in nanoseconds since 1970.
        sha256: of the image file; empty if it could not be read.
        status: ``done`` or ``failed``.
        message: the reason of a failure.
        artefact: SHA-256 of the model's main file.
        options: what was asked for: formats, runtime, and options other than the defaults.
        fingerprint: hash of everything but the image that decides the results: all files of the model, its image rule,
            its outputs, the options.
        outputs: the size in bytes of each written file, by its path relative to the output folder.
    """

    path: str
    size_bytes: int
    modified: int
    sha256: str
    status: Literal["done", "failed"]
    message: str
    artefact: str
    options: Mapping[str, Any]
    fingerprint: str
    outputs: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line without its end."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: bytes | str) -> Self | None:
        """The row of a line; None if the line is no complete row."""
        try:
            data = json.loads(line)
            row = cls(**data)
            texts = (row.path, row.sha256, row.message, row.artefact, row.fingerprint)
            numbers = (row.size_bytes, row.modified, *row.outputs.values())
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        fits = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
        if not fits or row.status not in (DONE, FAILED) or not isinstance(row.options, dict):
            return None
        return row


class Manifest:
    """A manifest that this process writes; use it as a context manager.

    ``rows`` are those found when it was opened, and those added since, by path. Leaving the block without an error
    writes the file anew, with one line an image.

    Raises:
        UsageError: it exists and ``resume`` is False, or another process writes to it.
        BadFileError: it holds something else.
        ResourceError: it cannot be read or written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._resume = resume
        self._descriptor = -1
        self.rows: dict[str, ManifestRow] = {}

    def __enter__(self) -> Self:
        ensure_folder(self._path.parent)
        with write_errors(self._path):
            self._descriptor = self._locked()
            try:
                self._read()
            except BaseException:
                os.close(self._descriptor)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                write_rows(self._path, sorted(self.rows.values(), key=lambda row: row.path))
        finally:
            os.close(self._descriptor)

    def add(self, row: ManifestRow) -> None:
        """Add a row; it survives a killed process.

        Raises:
            ResourceError: it cannot be written.
        """
        rest = f"{row.to_json()}\n".encode()
        with write_errors(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self.rows[row.path] = row

    def _locked(self) -> int:
        for _ in range(_ATTEMPTS):
            descriptor = open_own_file(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                self._lock(descriptor)
                if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                    return descriptor
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise self._busy()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise self._busy() from exc
        except OSError:  # a file system without locks
            return

    def _busy(self) -> UsageError:
        return UsageError(
            f"another run writes to the manifest {self._path}",
            hint="wait until it has ended; runs of different shards need manifests of their own",
        )

    def _read(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if not size:
            return
        if not self._resume:
            raise UsageError(
                f"the manifest {self._path} exists",
                hint="add --resume to do what is missing or has changed, or remove it to do everything again",
            )
        incomplete = 0
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            stream.seek(0)
            line = b""
            for line in stream:
                row = ManifestRow.from_json(line)
                if row is not None:
                    self.rows[row.path] = _shared(row)
                elif line.strip():
                    incomplete += 1
        begun = line.startswith(_BEGIN[: len(line)]) and size == len(line)
        if incomplete and not self.rows and not begun:
            raise BadFileError(f"{self._path} is not a manifest", hint="name another file")
        if incomplete:
            say(f"{self._path}: {incomplete} incomplete lines of a killed run are ignored")
        if not line.endswith(b"\n"):
            os.write(self._descriptor, b"\n")  # an incomplete last line must not be continued


def _shared(row: ManifestRow) -> ManifestRow:
    """The same row; texts that all rows have in common are held once."""
    return replace(row, artefact=sys.intern(row.artefact), fingerprint=sys.intern(row.fingerprint))


def write_rows(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a whole manifest, or leave the former one.

    Raises:
        UsageError, ResourceError: it cannot be written.
    """
    with atomic_path(path) as temporary, write_errors(path), temporary.open("w", encoding="ascii") as stream:
        stream.writelines(f"{row.to_json()}\n" for row in rows)
