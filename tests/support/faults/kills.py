"""Kills in this process: from a chosen file operation on, nothing more happens to any file, as after SIGKILL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("rename", "replace", "unlink", "remove", "rmdir")


class KilledError(BaseException):
    """The process is dead: clean-up code still runs, but finds that no file can be changed."""


class Kill:
    """Patches that strike before operation ``number`` (from 1) on a path in ``folder`` or on an open folder."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
        self._folder, self._number, self._count = str(folder), number, 0
        for name in OPERATIONS:
            patch.setattr(os, name, self._watched(getattr(os, name)))

    @property
    def struck(self) -> bool:
        return self._count >= self._number

    def _watched(self, operation: Callable[..., None]) -> Callable[..., None]:
        def watched(path: Any, *others: Any, **options: Any) -> None:
            if options.get("dir_fd") is not None or os.fspath(path).startswith(self._folder):
                self._count += 1
                if self.struck:
                    raise KilledError
            operation(path, *others, **options)

        return watched


def killed_everywhere(folder: Path, prepare: Callable[[], None], act: Callable[[], object]) -> Iterator[int]:
    """Run ``act`` once for each of its renames and removals in ``folder``, killed before it; yield after each kill.

    ``prepare`` runs before each time. The last run is killed nowhere and yields nothing.
    """
    for number in range(1, 1000):
        prepare()
        with pytest.MonkeyPatch.context() as patch:
            kill = Kill(patch, folder, number)
            with suppress(KilledError):
                act()
        if not kill.struck:
            return
        yield number
