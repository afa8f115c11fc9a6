"""Every error a user can meet, in one tree, each with the exit code of the command line.

    DptError                     1   internal: a defect of this program
    ├── UsageError               2   an argument that cannot be honoured
    ├── MissingExtraError        3   an optional dependency is not installed
    ├── BadFileError             4   an input file is missing, damaged, or of another kind
    ├── ParityError              5   numbers differ by more than the recipe allows (or files, from what was signed)
    ├── IncompatibleError        6   the engine or device does not match
    └── ResourceError            7   disk, memory or network

A message says what was found and what was expected; the hint says what to do.
"""

from __future__ import annotations


class DptError(Exception):
    """Base of the tree. ``str(error)`` is one line, ``hint`` the next step, ``details`` are shown on request."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.details = details


class UsageError(DptError):
    """An argument that cannot be honoured."""

    exit_code = 2


class MissingExtraError(DptError):
    """An optional dependency is not installed."""

    exit_code = 3


class BadFileError(DptError):
    """An input file is missing, damaged, or of another kind."""

    exit_code = 4


class ParityError(DptError):
    """Numbers differ by more than the recipe allows."""

    exit_code = 5


class IncompatibleError(DptError):
    """The engine or device does not match."""

    exit_code = 6


class ResourceError(DptError):
    """Disk, memory or network failed."""

    exit_code = 7
