"""One thing after another, with the next begun before the last is ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from dpt_deploy.core.errors import DptError

Item = TypeVar("Item")
Token = TypeVar("Token")
Result = TypeVar("Result")
AT_ONCE = 2  # one computes while the next is made ready and the one before is taken


def overlapped(
    items: Iterable[Item], begin: Callable[[Item], Token], end: Callable[[Token], Result]
) -> Iterator[Result]:
    """``end(begin(item))`` of every item, in order, with two of them begun at a time.

    What goes wrong with an item is raised after the results of those before it. What was begun is ended, also where
    nobody asks for the rest.
    """
    waiting: deque[Token] = deque()
    source, failure, more = iter(items), None, True
    try:
        while more:
            try:
                waiting.append(begin(next(source)))
            except StopIteration:
                more = False
            except DptError as exc:
                failure, more = exc, False
            while len(waiting) >= (AT_ONCE if more else 1):
                yield end(waiting.popleft())
        if failure is not None:
            raise failure
    finally:
        while waiting:
            with suppress(DptError):  # an error is under way already, or nobody asks
                end(waiting.popleft())
