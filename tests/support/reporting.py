"""A reporter that records what it receives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dpt_deploy.core.progress import Unit, reporting


@dataclass
class RecordedTask:
    """One task: every state it was in, as (done, total, item)."""

    name: str
    total: float | None
    unit: Unit
    on_change: Callable[[RecordedTask], None]
    done: float = 0
    item: str | None = None
    closed: bool = False
    states: list[tuple[float, float | None, str | None]] = field(default_factory=list)

    def advance(self, count: float = 1, *, item: str | None = None) -> None:
        self.update(done=self.done + count, item=item)

    def update(self, *, done: float | None = None, total: float | None = None, item: str | None = None) -> None:
        self.done = self.done if done is None else done
        self.total = self.total if total is None else total
        self.item = self.item if item is None else item
        self.states.append((self.done, self.total, self.item))
        self.on_change(self)

    def close(self) -> None:
        self.closed = True


@dataclass
class RecordingReporter:
    """``lines`` and ``tasks`` in their order; ``on_change`` is called with a task at each of its steps."""

    on_change: Callable[[RecordedTask], None] = lambda _task: None
    lines: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    tasks: list[RecordedTask] = field(default_factory=list)

    def say(self, text: str, *, detail: bool = False) -> None:
        (self.details if detail else self.lines).append(text)

    def task(self, name: str, total: float | None = None, *, unit: Unit = "items") -> RecordedTask:
        self.tasks.append(RecordedTask(name, total, unit, self.on_change))
        return self.tasks[-1]


@contextmanager
def recording(on_change: Callable[[RecordedTask], None] = lambda _task: None) -> Iterator[RecordingReporter]:
    """Record what is reported inside the block."""
    reporter = RecordingReporter(on_change)
    with reporting(reporter):
        yield reporter
