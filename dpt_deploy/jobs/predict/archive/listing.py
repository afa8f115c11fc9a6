"""The images of an archive, the part that one of several processes works on, and the names of what is written."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import resolved
from dpt_deploy.core.progress import say

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One image of an archive.

    ``path`` is relative to the archive, with slashes. ``modified`` is in nanoseconds since 1970.
    """

    path: str
    size_bytes: int
    modified: int


class ArchiveSource(Protocol):
    """The place of an archive's images; picklable, so that workers can read."""

    def read(self, path: str) -> bytes:
        """The bytes of the image of that relative path.

        Raises:
            BadFileError: they cannot be read.
        """


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` parts of an archive, counted from 0.

    An image belongs to the part that the SHA-256 of its relative path says, whatever else the archive holds. So every
    image is in exactly one part, and stays there when others come and go.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0/3``.

        Raises:
            UsageError: it is not I/N with I from 0 to N - 1.
        """
        match = _SHARD.fullmatch(text)
        if match is None or int(match[1]) >= int(match[2]):
            raise UsageError(
                f"shard {text[:40]!r} is not understood; expected I/N with I from 0 to N - 1",
                hint="for example 0/3, 1/3 and 2/3 for three processes",
            )
        return cls(int(match[1]), int(match[2]))

    def holds(self, path: str) -> bool:
        """True if the image of that relative path belongs to this part."""
        digest = hashlib.sha256(os.fsencode(path)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def list_entries(source: Path, suffixes: frozenset[str], *, recursive: bool, out: Path) -> list[ArchiveEntry]:
    """The images of a folder in order of their paths, of its subfolders too if ``recursive``.

    Hidden files and folders, links to folders and the folder ``out`` are left out.

    Raises:
        BadFileError: the folder, or one of its subfolders, cannot be read, or there is no image.
        UsageError: ``source`` is not a folder.
    """
    if not source.exists():
        raise BadFileError(f"{source} does not exist", hint="give a folder of images")
    if not source.is_dir():
        raise UsageError(f"{source} is a file; an archive is a folder", hint="leave the options of archives out")
    found, left_out = [], 0
    for path, entry in _files(source, "", recursive=recursive, out=resolved(out)):
        if entry is None or PurePosixPath(path).suffix.lower() not in suffixes:
            left_out += 1
            continue
        status = entry.stat()
        found.append(ArchiveEntry(path, status.st_size, status.st_mtime_ns))
    if left_out:
        what = "not images" if recursive else "not images, or folders (read with --recursive)"
        say(f"left out of {source}: {left_out} entries that are {what}")
    if not found:
        raise BadFileError(f"folder {source} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
    return sorted(found, key=lambda entry: entry.path)


def _files(folder: Path, prefix: str, *, recursive: bool, out: Path) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Yield the files of a folder by relative path; None for a folder that is left out."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as exc:  # left out, its images would be missing without a word
        raise BadFileError(
            f"cannot read folder {folder}: {exc.strerror or exc}", hint="check its permissions, or move it away"
        ) from exc
    for entry in entries:
        path = prefix + entry.name
        if not entry.is_dir():
            if entry.is_file() or not entry.is_symlink():
                yield path, entry
            else:
                yield path, None  # a link that leads nowhere
        elif recursive and not entry.is_symlink() and resolved(Path(entry.path)) != out:
            yield from _files(Path(entry.path), f"{path}/", recursive=True, out=out)
        elif not recursive:
            yield path, None


def whole_names(entries: Iterable[ArchiveEntry], suffixes: Sequence[str]) -> frozenset[str]:
    """The images whose results carry their whole name, ``a.jpg.png`` for ``a.jpg``, because the stem is not enough.

    ``suffixes`` are those of the files written for each image. The others' results are named by the stem. No two
    results of one archive have the same name.
    """
    whole: set[str] = set()
    by_folder = groupby(sorted(entries, key=lambda entry: _folder(entry.path)), lambda entry: _folder(entry.path))
    for _, group in by_folder:
        paths = [entry.path for entry in group]
        stems = Counter(str(PurePosixPath(path).with_suffix("")) for path in paths)
        mine = {path for path in paths if stems[str(PurePosixPath(path).with_suffix(""))] > 1}
        while taken := _shared(paths, mine, suffixes) - mine:
            mine |= taken
        whole |= mine
    return frozenset(whole)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _shared(paths: list[str], whole: set[str], suffixes: Sequence[str]) -> set[str]:
    """The images of one folder of which a result would have the name of another's."""
    owners: dict[str, list[str]] = {}
    for path in paths:
        base = result_base(path, whole)
        for suffix in suffixes:
            owners.setdefault(base + suffix, []).append(path)
    return {path for sharing in owners.values() if len(sharing) > 1 for path in sharing}


def result_base(path: str, whole: Iterable[str]) -> str:
    """The name of an image's results without suffix: its own relative path, or that without its suffix."""
    return path if path in whole else str(PurePosixPath(path).with_suffix(""))
