"""A folder of files that is written whole or not at all, in the place of one that was written before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpt_deploy.core.disk.exchange import exchange
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder, write_errors
from dpt_deploy.core.interruptions import DeferredInterruptions


def check_place(out: Path, kind: str, *, is_kind: Callable[[Path], bool], force: bool) -> None:
    """Refuse a folder ``out`` that holds other files, or, without ``force``, one of this ``kind``.

    ``is_kind`` recognises a folder of the kind.

    Raises:
        UsageError: the folder cannot be replaced; the message says which.
        ResourceError: it cannot be written.
    """
    check_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not is_kind(out):
        raise UsageError(
            f"{out} holds other files; expected a new or empty folder, or {kind}", hint="name another folder"
        )
    if not force:
        raise UsageError(f"{out} is {kind} already", hint="replace it with --force, or name another folder")


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """Yield an empty private folder that becomes ``out`` when the block ends without an error.

    Parent folders that were made for it are removed after a failure.

    Raises:
        ResourceError: the folder cannot be written.
    """
    made = ensure_folder(out.absolute().parent)
    try:
        with scratch_folder(out.absolute().parent) as scratch:
            new = scratch / "new"
            new.mkdir()
            with write_errors(out):
                yield new
            with write_errors(out), DeferredInterruptions():
                if out.exists():
                    exchange(new, out)
                else:
                    new.rename(out)
    except BaseException:
        for parent in made:
            if not any(parent.iterdir()):
                parent.rmdir()
        raise
