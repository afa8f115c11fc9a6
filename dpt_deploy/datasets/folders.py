"""Search for the files of a data set, with one error that lists what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from dpt_deploy.core.errors import BadFileError

_SHOWN = 5  # names in a message


class Search:
    """Search for the parts of a data set under ``root``; :meth:`finish` reports all missing ones in one error."""

    def __init__(self, root: Path, title: str, hint: str) -> None:
        self._root, self._title, self._hint = root, title, hint
        self._account: list[str] = []
        self._complete = True

    def one(self, *choices: str) -> Path:
        """Find the first of these paths under the root that exists; the first of them if none does."""
        paths = [self._root / choice for choice in choices]
        found = next((path for path in paths if path.exists()), None)
        self._note(" or ".join(choices), "found" if found else "")
        return found or paths[0]

    def some(self, *patterns: str, suffixes: tuple[str, ...]) -> list[Path]:
        """Find the files that match a pattern and end in one of ``suffixes`` (in any case), sorted."""
        everything = {path for pattern in patterns for path in self._root.glob(pattern)}
        visible = (path for path in everything if path.name[0] != ".")  # archives made on a Mac contain "._x.png"
        paths = sorted(path for path in visible if path.suffix.lower() in suffixes)
        self._note(f"{' or '.join(patterns)} ({', '.join(suffixes)})", f"{len(paths)} found" if paths else "")
        return paths

    def finish(self) -> None:
        """Raise :class:`BadFileError` if anything is missing."""
        if not self._complete:
            self.fail(f"looked for {'; '.join(self._account)}; it holds {shown(self._held(), 'nothing')}")

    def fail(self, reason: str) -> NoReturn:
        """Raise a :class:`BadFileError` about this folder for another reason."""
        raise BadFileError(f"{self._root} is not a whole {self._title} folder: {reason}", hint=self._hint)

    def every(self, paths: list[Path], what: str) -> None:
        """Raise a :class:`BadFileError` about this folder unless all these files exist."""
        if absent := [path.relative_to(self._root).as_posix() for path in paths if not path.is_file()]:
            self.fail(f"{len(absent)} of {len(paths)} {what} are missing: {shown(absent)}")

    def pairs(self, images: list[Path], truths: list[Path], key: Callable[[Path], str]) -> list[tuple[str, Path, Path]]:
        """Match images and ground truths by key: ``(key, image, truth)``, sorted by key.

        Raises:
            BadFileError: an image has no ground truth, or a ground truth no image.
        """
        left, right = ({key(path): path for path in paths} for paths in (images, truths))
        self._refuse(left, right, "has no ground truth")
        self._refuse(right, left, "has no image")
        return [(name, left[name], right[name]) for name in sorted(left)]

    def _refuse(self, these: Mapping[str, Path], those: Mapping[str, Path], what: str) -> None:
        if alone := sorted(set(these) - set(those)):
            self.fail(f"{len(alone)} of {len(these)} {what}: {shown(alone)}")

    def _note(self, what: str, found: str) -> None:
        self._account.append(f"{what}: {found or 'missing'}")
        self._complete = self._complete and bool(found)

    def _held(self) -> list[str]:
        return sorted(f"{path.name}/" if path.is_dir() else path.name for path in self._root.iterdir())


def shown(names: list[str], otherwise: str = "") -> str:
    """Join the first few of ``names`` and the number of the others, for a message."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else otherwise


def read_bytes(path: Path) -> bytes:
    """Read a file; raises :class:`BadFileError` when that fails."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadFileError(
            f"cannot read {path}: {exc.strerror or exc}", hint="check the path and its permissions"
        ) from exc


def read_lines(path: Path) -> list[str]:
    """Read the stripped lines of a UTF-8 text file; raises :class:`BadFileError` for any other file."""
    try:
        return [line.strip() for line in read_bytes(path).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as exc:
        raise BadFileError(f"{path} is not a text file in UTF-8", hint="download it again") from exc
