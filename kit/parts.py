"""A kit's layout: groups, each one archive in parts, each part with its size and SHA-256 in the manifest.

Standard library only, for it runs on both sides: where a kit is packed, and on a machine that has nothing but Python.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

FORMAT = 1
MANIFEST = "manifest.json"
PART_BYTES = 30 << 20
# What `xz --x86 --lzma2=preset=9e` does: machine code shrinks by some more when its jumps are made absolute first.
FILTERS = ({"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME})
_CHUNK = 1 << 20


class KitError(Exception):
    """A kit that cannot be packed or used; the text says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Part:
    """A file of the kit."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Group:
    """An archive of folders, one a distribution (or the product's own source), split into ``parts``.

    ``inputs`` are the hashes of what it was made of: the same ones need not be packed again.
    """

    name: str
    folders: tuple[str, ...]
    inputs: Mapping[str, str]
    size_bytes: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Manifest:
    """What the kit holds, and for which Python (``cp312``)."""

    python: str
    product: str
    groups: tuple[Group, ...]
    format: int = FORMAT

    def group(self, name: str) -> Group | None:
        """A group by its name, None where the kit was packed without."""
        return next((group for group in self.groups if group.name == name), None)

    def check_python(self) -> None:
        """Raise :class:`KitError` where this Python is not the one that the wheels are for."""
        here = f"cp{sys.version_info.major}{sys.version_info.minor}"
        if here != self.python:
            wanted = f"{self.python[2]}.{self.python[3:]}"
            raise KitError(
                f"this kit is for Python {wanted} ({self.python}); {sys.executable} is {here}: name another with "
                f"run.sh --python python{wanted}, or pack the kit again with --python {here[2]}.{here[3:]}"
            )


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest:
    """The manifest of a kit's folder; raises :class:`KitError` for anything else."""
    path = folder / name
    try:
        data: Any = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise KitError(f"{path} has the format {data['format']}; this program reads {FORMAT}: pack the kit again")
        groups = tuple(
            Group(
                **{**entry, "folders": tuple(entry["folders"]), "parts": tuple(Part(**part) for part in entry["parts"])}
            )
            for entry in data["groups"]
        )
        return Manifest(**{**data, "groups": groups})
    except FileNotFoundError:
        raise KitError(f"{folder} is no kit: it has no {MANIFEST}; pack one with `make gpu-kit`") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise KitError(f"{path} cannot be read ({exc!r}): copy it again") from exc


def _read_group(entry: Mapping[str, Any]) -> Group:
    parts = tuple(Part(**part) for part in entry["parts"])
    return Group(**{**entry, "folders": tuple(entry["folders"]), "parts": parts})


def write_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write it whole or not at all: it is what makes a folder a kit."""
    beside = folder / f"{name}.new"
    beside.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    beside.replace(folder / name)


def sha256_of(path: Path) -> str:
    """Of a file, in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# --- packing ----------------------------------------------------------------------------------------------------------


class _Splitter(io.RawIOBase):
    """Writes what comes into files of at most ``limit`` bytes."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        super().__init__()
        self._folder, self._name, self._limit = folder, name, limit
        self._stream: IO[bytes] | None = None
        self.paths: list[Path] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        while left:
            if self._stream is None or self._stream.tell() >= self._limit:
                self._stream = self._next()
            room = self._limit - self._stream.tell()
            self._stream.write(left[:room])
            left = left[room:]
        return len(data)

    def _next(self) -> IO[bytes]:
        if self._stream:
            self._stream.close()
        self.paths.append(self._folder / f"{self._name}.tar.xz.{len(self.paths):02}")
        return self.paths[-1].open("wb")

    def close(self) -> None:
        if self._stream:
            self._stream.close()
        super().close()


def write_group(
    folder: Path,
    name: str,
    folders: Mapping[str, Path],
    inputs: Mapping[str, str],
    *,
    limit: int = PART_BYTES,
    preset: int | None = None,
) -> Group:
    """Archive ``folders`` (name in the archive to where it lies) into parts in ``folder``: the same bytes each time."""
    for old in folder.glob(f"{name}.tar.xz.*"):
        old.unlink()
    filters = list(FILTERS) if preset is None else [{"id": lzma.FILTER_LZMA2, "preset": preset}]
    splitter = _Splitter(folder, name, limit)
    with (
        splitter,
        lzma.open(splitter, "wb", check=lzma.CHECK_CRC64, filters=filters) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for title, root in sorted(folders.items()):
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    archive.add(path, f"{title}/{path.relative_to(root)}", filter=_plain)
    parts = tuple(Part(path.name, sha256_of(path), path.stat().st_size) for path in splitter.paths)
    return Group(name, tuple(sorted(folders)), dict(inputs), sum(part.size_bytes for part in parts), parts)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what would differ from one packing to the next."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


# --- unpacking --------------------------------------------------------------------------------------------------------


def find(part: Part, *folders: Path) -> Path | None:
    """Where a part lies, in the first of the folders that has it."""
    return next((folder / part.name for folder in folders if (folder / part.name).is_file()), None)


def complaint(part: Part, *folders: Path) -> str:
    """What is wrong with a part, by its name; empty when it is whole."""
    path = find(part, *folders)
    if path is None:
        return f"{part.name} is missing"
    if path.stat().st_size != part.size_bytes:
        return f"{part.name} has {path.stat().st_size} bytes, not {part.size_bytes}"
    return "" if sha256_of(path) == part.sha256 else f"{part.name} is damaged: its SHA-256 is not that of {MANIFEST}"


def complaints(group: Group, *folders: Path) -> list[str]:
    """What is wrong with the parts of a group; empty when they are whole."""
    return [found for part in group.parts if (found := complaint(part, *folders))]


def unpack_group(group: Group, target: Path, *folders: Path) -> None:
    """Check every part, then unpack the archive into ``target``.

    Raises:
        KitError: a part is missing or damaged; the message names each of them.
    """
    if found := complaints(group, *folders):
        raise KitError(f"group {group.name}: {'; '.join(found)}: copy it again")
    target.mkdir(parents=True, exist_ok=True)
    paths = [path for part in group.parts if (path := find(part, *folders))]
    with (
        io.BufferedReader(_Joined(paths), _CHUNK) as joined,
        lzma.open(joined) as packed,
        tarfile.open(fileobj=packed, mode="r|") as archive,
    ):
        archive.extractall(target, filter="data")


class _Joined(io.RawIOBase):
    """Files one after the other as one stream."""

    def __init__(self, paths: Iterable[Path]) -> None:
        super().__init__()
        self._left = list(paths)
        self._stream: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream is None:
                if not self._left:
                    return 0
                self._stream = self._left.pop(0).open("rb")
            if count := self._stream.readinto(buffer):  # type: ignore[attr-defined]
                return int(count)
            self._stream.close()
            self._stream = None
