"""Ordered processing of a sequence in which the next item begins before the last one has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from dpt_deploy.core.errors import DptError

Item = TypeVar("Item")
Token = TypeVar("Token")
Result = TypeVar("Result")
AT_ONCE = 2  # one computes while the next is prepared and the previous result is taken


def overlapped(
    items: Iterable[Item], begin: Callable[[Item, bool], Token | None], end: Callable[[Token], Result]
) -> Iterator[Result]:
    """Yield ``end(begin(item, …))`` for every item, in order, with two items begun at a time.

    The second argument of ``begin`` says if it may wait for room. It may not while an item begun here has not ended:
    then it returns None if there is no room. The error of an item is raised after the results of the items before it.
    Every item that was begun is ended, even if the caller stops early.
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
            with suppress(DptError):  # another error is already raised, or the caller has stopped
                end(waiting.popleft())


def _begun(
    items: Iterable[Item],
    begin: Callable[[Item, bool], Token | None],
    waiting: Collection[Token],
    failures: list[DptError],
) -> Iterator[Token | None]:
    """Begin every item; yield None each time there is no room.

    An error ends the sequence. It is stored in ``failures`` and raised after the results of the items before it.
    """
    try:
        for item in items:
            while (token := begin(item, not waiting)) is None:
                yield None
            yield token
    except DptError as exc:
        failures.append(exc)
