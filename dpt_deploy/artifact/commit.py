"""Several files that replace others together: after a kill at any moment, the former or the new ones, whole.

They are prepared in the private folder ``.NAME.partial`` next to their places. A journal in it, written last, decides:
without it the former files stay as they are and the folder is a leftover; with it the new files count, and whoever
comes next finishes the renames.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PureWindowsPath

from dpt_deploy.core.disk.private import PrivateFolder, hold_folder
from dpt_deploy.core.errors import DptError, ResourceError, UsageError
from dpt_deploy.core.files import ensure_folder, write_errors
from dpt_deploy.core.interruptions import DeferredInterruptions

_JOURNAL = ".commit"
_MAX_JOURNAL_BYTES = 1 << 16

Accepts = Callable[[str], bool]  # True for the name of a file that may be replaced


@dataclass(frozen=True)
class _Journal:
    """Names and sizes of the new ``files``, the last of which marks the set as complete, and names to remove."""

    files: list[tuple[str, int]]
    stale: list[str]

    @property
    def mark(self) -> str:
        return self.files[-1][0]


def stage_of(place: Path, name: str) -> Path:
    """Path of the private folder in which the files of ``name`` are prepared for the folder ``place``."""
    return place / f".{name}.partial"


@contextmanager
def staged_files(place: Path, name: str) -> Iterator[Path]:
    """Make the private folder for the files of ``name``; it is removed when the block ends.

    A commit that a killed run has decided is finished first, and its leftovers are removed. Parent folders made for
    this are removed after a failure.

    Raises:
        UsageError: ``place`` is a file, or something else lies at the private folder's name.
        ResourceError: the folder cannot be written, or another process is writing the same files.
    """
    made = ensure_folder(place)
    stage = stage_of(place, name)
    try:
        with write_errors(place / name):
            held = hold_folder(stage, parents=True)
        if held is None:
            raise ResourceError(
                f"{place / name} is being written by another process", hint="wait for it to end, or use another folder"
            )
        with held:
            yield from _prepared(held, place / name)
    finally:
        with suppress(OSError):  # not empty: the files are in it
            for parent in made:
                parent.rmdir()


def _prepared(held: PrivateFolder, path: Path) -> Iterator[Path]:
    try:
        with write_errors(path):
            _finish(held.path)
            held.clear()
        yield held.path
    finally:
        if _read_journal(held.path) is None:
            held.remove()  # else the renames failed midway: the next run tries again


@dataclass(frozen=True)
class FileSet:
    """Files in the private folder ``stage`` that replace their namesakes next to it, and files ``stale`` that go.

    The last of ``names`` is the mark, by which readers know that the set is complete.
    """

    stage: Path
    names: Sequence[str]
    stale: Sequence[str] = ()


def commit_files(*sets: FileSet) -> None:
    """Move prepared files to their places: every set, or none if a journal cannot be written.

    All get the permissions that the umask allows, whatever wrote them. Interruptions wait until all are in place.

    Raises:
        UsageError: a folder lies at the place of a file.
        ResourceError: the journal cannot be written, or a file cannot be moved.
    """
    for each in sets:
        for name in each.names:
            if (path := each.stage.parent / name).is_dir():
                raise UsageError(f"{path} is a folder; a file belongs there", hint="remove it, or name another -o")
    with DeferredInterruptions():
        try:
            for each in sets:
                with write_errors(each.stage.parent / each.names[-1]):
                    _decide(each)
        except ResourceError:
            for each in sets:
                (each.stage / _JOURNAL).unlink(missing_ok=True)
            raise
        for each in sets:
            with write_errors(each.stage.parent / each.names[-1]):
                _finish(each.stage)


def _decide(files: FileSet) -> None:
    draft = files.stage / f"{_JOURNAL}.new"
    draft.touch()
    allowed = draft.stat().st_mode & 0o777
    for name in files.names:
        (files.stage / name).chmod(allowed)
    sizes = [(name, (files.stage / name).stat().st_size) for name in files.names]
    draft.write_text(json.dumps(asdict(_Journal(sizes, list(files.stale)))), encoding="utf-8")
    draft.replace(files.stage / _JOURNAL)


def recover(place: Path, name: str, accepts: Accepts, *, clear: bool = False) -> None:
    """Finish a commit that a killed run has decided, if the folder can be written and no process is at work in it.

    With ``clear`` a leftover without a decision is removed, too. A journal that names a file that ``accepts`` refuses
    is left alone. Nothing is raised: whoever writes there next reports what is wrong.
    """
    stage = stage_of(place, name)
    with suppress(OSError, DptError):
        if not stage.is_dir() or not (clear or (stage / _JOURNAL).exists()):
            return
        held = hold_folder(stage)
        if held is None:
            return
        with held:
            journal = _read_journal(stage)
            if not held.is_exclusive or (journal and not all(map(accepts, _names(journal)))):
                return
            _finish(stage)
            if clear or journal:
                held.remove()


def _names(journal: _Journal) -> list[str]:
    return [*(name for name, _ in journal.files), *journal.stale]


def _finish(stage: Path) -> None:
    """Move what the journal names; nothing without a whole one. Can be repeated after a kill at any step."""
    journal = _read_journal(stage)
    if journal is None:
        return
    place, mark = stage.parent, journal.mark
    with DeferredInterruptions():
        if (stage / mark).exists():
            try:
                (place / mark).unlink(missing_ok=True)  # a mixture must never look whole
            except OSError:
                (stage / _JOURNAL).unlink()  # nothing has moved yet: the former files stay
                raise
        for name, _ in journal.files[:-1]:
            _move(stage / name, place / name)
        for name in journal.stale:
            (place / name).unlink(missing_ok=True)
        _move(stage / mark, place / mark)
        (stage / _JOURNAL).unlink()


def _move(source: Path, target: Path) -> None:
    if source.exists():  # else an earlier run has moved it
        source.replace(target)


def _read_journal(stage: Path) -> _Journal | None:
    """The journal, if there is a readable one, and every file that it names lies in the folder or at its place."""
    path = stage / _JOURNAL
    try:
        if not _is_file(path) or path.stat().st_size > _MAX_JOURNAL_BYTES:
            return None
        data = json.loads(path.read_bytes())
        files, stale = [(name, size) for name, size in data["files"]], list(data["stale"])
        journal = _Journal(files, stale)
        if not files or not all(map(_is_plain, _names(journal))):
            return None
        return journal if all(_lies(stage, name, size) for name, size in files) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name not in ("", "..", _JOURNAL) and PureWindowsPath(name).name == name


def _lies(stage: Path, name: str, size: object) -> bool:
    found = stage / name if (stage / name).is_symlink() or (stage / name).exists() else stage.parent / name
    return _is_file(found) and found.stat().st_size == size


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False
