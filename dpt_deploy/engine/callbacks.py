"""The objects that TensorRT calls while it works: a logger and a progress monitor.

No exception may leave them. What they raise would travel through the library's code, which drops it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from dpt_deploy.core.interruptions import DeferredInterruptions
from dpt_deploy.core.progress import TaskProgress, current_reporter
from dpt_deploy.engine.compat import Edition

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "memoryallocation", "bad_alloc")


class Messages:
    """The library's errors during a ``with`` block.

    There is one logger per process, because the library keeps the first one it receives. Blocks use it in turn. An
    interruption is raised at the end of the block: the library may call the logger at any time.
    """

    def __init__(self, edition: Edition) -> None:
        self._logger = _logger(edition.library)
        self._interruptions = DeferredInterruptions()

    def __enter__(self) -> Messages:
        self._logger.turn.acquire()
        self._interruptions.__enter__()
        self._logger.errors.clear()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._logger.turn.release()
        self._interruptions.__exit__(*exc)

    @property
    def interrupted(self) -> bool:
        """True if an interruption waits for the end of the block."""
        return self._interruptions.arrived

    @property
    def logger(self) -> Any:
        return self._logger

    @property
    def errors(self) -> list[str]:
        return [_line(text) for text in self._logger.errors]

    @property
    def first(self) -> str:
        """The most informative message: the first error that names an error code."""
        errors = self.errors
        plain = errors[0] if errors else "no reason was given"
        return next((text for text in errors if "Error Code" in text), plain)[:400]

    @property
    def out_of_memory(self) -> bool:
        """True if an error mentions memory."""
        text = " ".join(self.errors).lower()
        return any(sign in text for sign in _OUT_OF_MEMORY)


def _line(text: str) -> str:
    return " ".join(text.split())


@cache
def _logger(library: str) -> Any:
    trt: Any = import_module(library)

    class Logger(trt.ILogger):  # type: ignore[misc]  # its base is known at run time only
        """Keeps errors. A failed build writes hundreds of other messages."""

        def __init__(self) -> None:
            super().__init__()
            self.turn = threading.RLock()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Logger()


class BuildPhases:
    """The phases of one build, each a task of the reporter that was current when the build began.

    The library may call from threads of its own. An exception of the reporter ends the build and is kept in
    ``failure`` for the caller. An interruption ends the build too; ``messages`` raises it afterwards.
    """

    def __init__(self, messages: Messages) -> None:
        self.failure: BaseException | None = None
        self._messages = messages
        self._reporter = current_reporter()
        self._open: dict[str, TaskProgress] = {}

    def start(self, name: str, steps: int) -> None:
        """Begin a phase; phases nest."""
        with self._keeping_failure():
            self._open[name] = self._reporter.task(name, steps)

    def step(self, name: str, done: int) -> bool:
        """Report ``done`` steps of a phase; False asks the library to stop."""
        if self.failure is None and name in self._open:
            with self._keeping_failure():
                self._open[name].update(done=done)
        return self.failure is None and not self._messages.interrupted

    def finish(self, name: str) -> None:
        """End a phase."""
        if name in self._open:
            with self._keeping_failure():
                self._open.pop(name).close()

    def close(self) -> None:
        """End the phases that a cancelled build has left open."""
        for name in list(self._open):
            self.finish(name)

    @contextmanager
    def _keeping_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as exc:  # noqa: BLE001  raised again by the builder
            self.failure = self.failure or exc


def progress_monitor(edition: Edition, messages: Messages) -> Any:
    """Return the library's progress monitor, which reports to the :class:`BuildPhases` in its ``phases``."""

    class Monitor(edition.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        """The library's interface over :class:`BuildPhases`."""

        def __init__(self) -> None:
            super().__init__()
            self.phases = BuildPhases(messages)

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self.phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self.phases.step(phase_name, step + 1)

        def phase_finish(self, phase_name: str) -> None:
            self.phases.finish(phase_name)

    return Monitor()
