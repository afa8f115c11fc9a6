"""One thing after another, with the next begun before the last is ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from dpt_deploy.core.errors import DptError

Item = TypeVar("Item")
Token = TypeVar("Token")
Result = TypeVar("Result")
AT_ONCE = 2  # one computes while the next is made ready and the one before is taken


def overlapped(
    items: Iterable[Item], begin: Callable[[Item, bool], Token | None], end: Callable[[Token], Result]
) -> Iterator[Result]:
    """``end(begin(item, …))`` of every item, in order, with two of them begun at a time.

    ``begin`` is told whether it may wait for others to end; where it may not, because something begun here waits to be
    ended, it returns None if there is no room. What goes wrong with an item is raised after the results of those
    before it. What was begun is ended, also where nobody asks for the rest.
    """
    waiting: deque[Token] = deque()
    failures: list[DptError] = []
    try:
        for token in _begun(items, begin, waiting, failures):
            if token is not None:
                waiting.append(token)
            if token is None or len(waiting) == AT_ONCE:
                yield end(waiting.popleft())
        while waiting:
            yield end(waiting.popleft())
        for failure in failures:
            raise failure
    finally:
        while waiting:
            with suppress(DptError):  # an error is under way already, or nobody asks
                end(waiting.popleft())


def _begun(
    items: Iterable[Item],
    begin: Callable[[Item, bool], Token | None],
    waiting: Collection[Token],
    failures: list[DptError],
) -> Iterator[Token | None]:
    """Every item begun; None as often as there is no room for it. An error ends it and is kept: its turn comes after
    what was begun before."""
    try:
        for item in items:
            while (token := begin(item, not waiting)) is None:
                yield None
            yield token
    except DptError as exc:
        failures.append(exc)
