"""Journal of scores, one JSON line each, so that an interrupted study continues where it stopped.

Each line names the scored model, runtime and data set by hash, so others in the same folder get lines of their own. An
incomplete line, as a killed process leaves it, is ignored.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dpt_deploy.core.disk.private import open_own_file
from dpt_deploy.core.files import write_errors

Key = tuple[str, str, str]  # scored candidate, size, image
Errors = dict[str, float]  # by name of the metric


class Journal:
    """The scores in ``path``; use as a context manager to add scores.

    ``ignored`` counts the lines that are not scores.

    Raises:
        ResourceError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None
        with write_errors(path):
            lines = _lines(path)
        found = [_score(line) for line in lines if line.strip()]
        self._scores = dict(entry for entry in found if entry is not None)
        self.ignored = found.count(None)

    def __enter__(self) -> Self:
        with write_errors(self._path):
            descriptor = open_own_file(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self._stream = os.fdopen(descriptor, "ab", buffering=0)  # every line is written to the file at once
            self._stream.write(b"\n")  # an incomplete last line must not be continued
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()

    def get(self, candidate: str, size: str, image: str) -> Errors | None:
        """Return the errors added in this run or an earlier one."""
        return self._scores.get((candidate, size, image))

    def add(self, candidate: str, size: str, image: str, errors: Errors) -> None:
        """Add a score; it survives an abort of the process."""
        line = json.dumps({"subject": candidate, "size": size, "image": image, "errors": errors})
        with write_errors(self._path):
            if self._stream is None:
                raise ValueError("the journal is not open")
            self._stream.write(f"{line}\n".encode())
        self._scores[candidate, size, image] = errors


def _lines(path: Path) -> list[bytes]:
    try:
        with os.fdopen(open_own_file(path, os.O_RDONLY), "rb") as stream:
            return stream.read().splitlines()
    except FileNotFoundError:
        return []


def _score(line: bytes) -> tuple[Key, Errors] | None:
    try:
        entry: Any = json.loads(line)
        key, errors = (entry["subject"], entry["size"], entry["image"]), dict(entry["errors"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    named = all(isinstance(part, str) for part in (*key, *errors))
    finite = all(isinstance(value, float) and math.isfinite(value) for value in errors.values())
    return (key, errors) if named and finite and errors else None
