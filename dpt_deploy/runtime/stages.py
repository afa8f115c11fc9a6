"""Items worked on by several threads at once, with results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TypeVar

from dpt_deploy.core.errors import DptError

Item = TypeVar("Item")
Result = TypeVar("Result")
_Begun = Future[Result] | None  # None: there are no more items


def in_parallel(items: Iterable[Item], work: Callable[[Item], Result], *, workers: int) -> Generator[Future[Result]]:
    """Yield ``work(item)`` of every item, in order, as futures that are done.

    ``items`` are taken one at a time by one thread, and worked on by ``workers`` others. At most two more items than
    workers are held. An error of an item is in its future, and the others go on. A :class:`DptError` that ``items``
    itself raises ends the sequence as its last item. If the caller stops early, items that were not begun are dropped,
    and those that were are finished first.
    """
    source = iter(items)

    def take() -> _Begun[Result]:
        for item in source:
            return pool.submit(work, item)
        return None

    with ThreadPoolExecutor(workers, "work") as pool, ThreadPoolExecutor(1, "take") as taker:
        ahead = deque(taker.submit(take) for _ in range(workers + 1))
        try:
            while (future := _begun(ahead.popleft())) is not None:
                wait([future])
                ahead.append(taker.submit(take))
                yield future
        finally:
            for taken in ahead:
                _drop(taken)


def _begun(taken: Future[_Begun[Result]]) -> _Begun[Result]:
    """The work on an item; an error of the sequence itself stands for its last item."""
    try:
        return taken.result()
    except DptError as exc:
        failed: Future[Result] = Future()
        failed.set_exception(exc)
        return failed


def _drop(taken: Future[_Begun[Result]]) -> None:
    if taken.cancel():
        return
    with suppress(DptError):  # of an item after the one at which the caller stopped
        if (future := taken.result()) is not None:
            future.cancel()
