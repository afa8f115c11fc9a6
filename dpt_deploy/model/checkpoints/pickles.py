"""Names that a pickle would import, found by reading its opcodes without running them."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

_HARMLESS_GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_\w+|torch \w*(Storage|Size|device|\d)")


def foreign_globals(path: Path) -> list[str]:
    """The names that the pickle of a checkpoint imports and that are neither tensors nor containers, e.g. os.system."""
    names: list[str] = []
    with suppress(ValueError, OSError, MemoryError, zipfile.BadZipFile), _open_pickle(path) as stream:
        for name in _globals(stream):
            names.append(name)  # noqa: PERF402 - what was seen before a damaged opcode counts
    return [name.replace(" ", ".") for name in dict.fromkeys(names) if not _HARMLESS_GLOBALS.fullmatch(name)]


def _open_pickle(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl"))))


def _globals(stream: IO[bytes]) -> Iterator[str]:
    """Yield the imported names of each pickle in the stream: the old format is several in a row."""
    strings: list[str] = []
    while True:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument)
            elif opcode.name == "STACK_GLOBAL":
                yield " ".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
