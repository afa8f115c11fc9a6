"""Messages and progress of jobs in a terminal: lines and bars on standard error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from dpt_deploy.cli.shared.output import say, talk
from dpt_deploy.cli.shared.printable import printable
from dpt_deploy.core.errors import DptError
from dpt_deploy.core.progress import SILENT, TaskProgress, Unit, reporting

_LINES = 20  # of a long task where there is no terminal to draw a bar on


class ConsoleReporter:
    """Reporter of the command line. Bars are drawn in a terminal only; ``details`` shows the lines marked so.

    ``times`` begins each line with the seconds since the reporter was made.
    """

    def __init__(self, *, details: bool = False, times: bool = False) -> None:
        self._details, self._times, self._start = details, times, perf_counter()
        self._lock = threading.RLock()
        self._running = 0
        columns = (TextColumn("{task.description}"), BarColumn(), _Amount(), TimeRemainingColumn())
        item = TextColumn("{task.fields[item]}", style="dim", markup=False)
        self._bars = Progress(*columns, item, console=talk, transient=True, disable=not talk.is_terminal)

    def say(self, text: str, *, detail: bool = False) -> None:
        """Print one line of talk."""
        if self._details or not detail:
            say(f"{perf_counter() - self._start:7.1f} s  {text}" if self._times else text)

    def task(self, name: str, total: float | None = None, *, unit: Unit = "items") -> TaskProgress:
        """Draw a bar; without a terminal, print a line now and then for a task that is counted in steps."""
        if self._bars.disable:
            return _Log(total) if unit == "steps" else SILENT
        with self._lock:
            if not self._running:
                self._bars.start()
            self._running += 1
            return _Bar(self._bars, self._bars.add_task(name, total=total, unit=unit, item=""), self._ended)

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._bars.stop()


class _Bar:
    """One progress bar."""

    def __init__(self, bars: Progress, task: TaskID, ended: Callable[[], None]) -> None:
        self._bars, self._task, self._ended, self._item = bars, task, ended, ""

    def advance(self, count: float = 1, *, item: str | None = None) -> None:
        self._item = self._item if item is None else printable(item)
        self._bars.update(self._task, advance=count, item=self._item)

    def update(self, *, done: float | None = None, total: float | None = None, item: str | None = None) -> None:
        self._item = self._item if item is None else printable(item)
        self._bars.update(self._task, completed=done, total=total, item=self._item)

    def close(self) -> None:
        self._bars.remove_task(self._task)
        self._ended()


class _Log:
    """The progress of a long task as lines of talk."""

    def __init__(self, total: float | None) -> None:
        self._done, self._total, self._item = 0.0, total, ""

    def advance(self, count: float = 1, *, item: str | None = None) -> None:
        self.update(done=self._done + count, item=item)

    def update(self, *, done: float | None = None, total: float | None = None, item: str | None = None) -> None:
        self._total = self._total if total is None else total
        self._item = self._item if item is None else item
        if done is None:
            return
        self._done = done
        if self._total and done % max(1, self._total // _LINES) == 0:
            say(", ".join(filter(None, (f"step {done:.0f} of {self._total:.0f}", self._item))))

    def close(self) -> None:
        """Print nothing more."""


class _Amount(ProgressColumn):
    """Column with the finished amount, in the unit of the task."""

    def render(self, task: Task) -> Text:
        """Format one task."""
        if task.fields["unit"] == "share":
            return Text(f"{task.percentage:.0f}%")
        show: Callable[[float], str] = (
            (lambda count: decimal(int(count))) if task.fields["unit"] == "bytes" else (lambda count: f"{count:.0f}")
        )
        speed = f", {show(task.speed)}/s" if task.fields["unit"] == "bytes" and task.speed else ""
        return Text(f"{show(task.completed)}/{'?' if task.total is None else show(task.total)}{speed}")


@contextmanager
def checkpoint_keys(wanted: bool) -> Iterator[None]:
    """For ``--keys``: report every key of a checkpoint, also of one that does not fit."""
    if not wanted:
        yield
        return
    with reporting(ConsoleReporter(details=True)):
        try:
            yield
        except DptError as exc:
            for line in exc.details:
                say(line)
            raise
