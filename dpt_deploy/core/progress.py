"""Messages and progress of a running job, sent to one reporter.

A job calls :func:`say` and :func:`progress`. Both are silent unless the caller has set a reporter::

    with reporting(MyReporter()):
        export_model(request, out)

The reporter is held in a context variable, so contexts that run interleaved do not see each other's. A new thread
starts without one: code that is called back from another thread must take :func:`current_reporter` along.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol

Unit = Literal["items", "steps", "bytes", "share"]


class TaskProgress(Protocol):
    """Progress of one task that is under way."""

    def advance(self, count: float = 1, *, item: str | None = None) -> None:
        """Count ``count`` more as done; ``item`` describes the current one."""

    def update(self, *, done: float | None = None, total: float | None = None, item: str | None = None) -> None:
        """Update the amount done, the total, or the current item; None leaves a value as it is."""

    def close(self) -> None:
        """End the task, finished or not."""


class Reporter(Protocol):
    """Receiver of the messages and the progress of a job."""

    def say(self, text: str, *, detail: bool = False) -> None:
        """Report one line; ``detail`` marks what only a user who asked for details wants to see."""

    def task(self, name: str, total: float | None = None, *, unit: Unit = "items") -> TaskProgress:
        """Begin a task of ``total`` units; None: not known yet. Tasks may nest."""


class SilentReporter:
    """A reporter that shows nothing; it is its own task."""

    def say(self, text: str, *, detail: bool = False) -> None:
        """Discard the line."""

    def task(self, name: str, total: float | None = None, *, unit: Unit = "items") -> TaskProgress:  # noqa: ARG002
        """Begin a task that shows nothing."""
        return self

    def advance(self, count: float = 1, *, item: str | None = None) -> None:
        """Discard the progress."""

    def update(self, *, done: float | None = None, total: float | None = None, item: str | None = None) -> None:
        """Discard the progress."""

    def close(self) -> None:
        """End nothing."""


class LineReporter(SilentReporter):
    """A reporter that prints messages, one line each, on standard error; progress and details are not shown."""

    def say(self, text: str, *, detail: bool = False) -> None:
        """Print the line."""
        if not detail:
            sys.stderr.write(f"{text}\n")


SILENT = SilentReporter()
_REPORTER: ContextVar[Reporter] = ContextVar("reporter", default=SILENT)


def current_reporter() -> Reporter:
    """Return the reporter of this context."""
    return _REPORTER.get()


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send messages and progress to ``reporter`` inside the block, then to the previous one again."""
    token = _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(token)


def say(text: str, *, detail: bool = False) -> None:
    """Report one line; ``detail`` marks what only a user who asked for details wants to see."""
    _REPORTER.get().say(text, detail=detail)


@contextmanager
def progress(name: str, total: float | None = None, *, unit: Unit = "items") -> Iterator[TaskProgress]:
    """Report the progress of a task inside the block."""
    task = _REPORTER.get().task(name, total, unit=unit)
    try:
        yield task
    finally:
        task.close()
