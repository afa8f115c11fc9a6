"""Three stages at once: the next item is read while this one is computed and the last one is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from dpt_deploy.core.errors import DptError

Item = TypeVar("Item")
Read = TypeVar("Read")
Computed = TypeVar("Computed")
Result = TypeVar("Result")
_END = object()


def staged(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Read], Computed],
    write: Callable[[Computed], Result],
) -> Generator[Future[Result]]:
    """Yield ``write(compute(read(item)))`` of every item, in order, as futures that are done.

    ``items`` are taken and ``read`` in one thread, ``write`` runs in another, ``compute`` in the caller's. So each sees
    the items in order and one at a time; four items are held at most. A :class:`DptError` of an item is in its future,
    and the next item goes on. One that ``items`` itself raises ends the sequence. If the caller stops early, items that
    were not begun are dropped, and those that were are finished first.
    """
    source = iter(items)

    def take() -> object:
        for item in source:
            return _kept(read, item)
        return _END

    reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "write")
    behind: deque[Future[Result]] = deque()
    with reader, writer:
        ahead: Future[object] = reader.submit(take)
        try:
            while (found := _next(ahead)) is not _END:
                ahead = reader.submit(take)
                behind.append(_begun(found, compute, write, writer))
                if len(behind) > 1:
                    yield _done(behind.popleft())
            while behind:
                yield _done(behind.popleft())
        finally:
            ahead.cancel()
            for future in behind:
                future.cancel()


def _next(ahead: Future[object]) -> object:
    """What was read; an error of the sequence itself stands for its last item."""
    try:
        return ahead.result()
    except DptError as exc:
        return exc


def _kept(function: Callable[[Item], Read], item: Item) -> Read | DptError:
    try:
        return function(item)
    except DptError as exc:
        return exc


def _begun(
    found: object,
    compute: Callable[[Any], Computed],
    write: Callable[[Computed], Result],
    writer: ThreadPoolExecutor,
) -> Future[Result]:
    """Compute what was read, and queue its writing."""
    computed = found if isinstance(found, DptError) else _kept(compute, found)
    if not isinstance(computed, DptError):
        return writer.submit(write, computed)
    failed: Future[Result] = Future()
    failed.set_exception(computed)
    return failed


def _done(future: Future[Result]) -> Future[Result]:
    wait([future])
    return future
