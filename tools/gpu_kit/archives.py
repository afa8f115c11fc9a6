"""The files of a kit: groups, each one compressed archive in parts, listed with size and SHA-256 in the manifest.

Standard library only: this runs where a kit is packed, and on a machine that has nothing but Python.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
PART_BYTES = 30 << 20
# The filters of `xz --x86 --lzma2=preset=9e`: machine code shrinks more when its jumps are made absolute first.
FILTERS = ({"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME})
_CHUNK = 1 << 20


class KitError(Exception):
    """A kit that cannot be packed or used; the text says what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Part:
    """One file of the kit."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Group:
    """An archive of folders, one for each distribution (or the product's source), split into ``parts``.

    ``inputs`` are the hashes of the packed folders: a group with the same ones need not be packed again.
    """

    name: str
    folders: tuple[str, ...]
    inputs: Mapping[str, str]
    size_bytes: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Manifest:
    """The groups of a kit, and the Python that it is for (``cp312``)."""

    python: str
    product: str
    groups: tuple[Group, ...]
    format: int = FORMAT

    def group(self, name: str) -> Group | None:
        """Find a group by its name; None if the kit was packed without it."""
        return next((group for group in self.groups if group.name == name), None)

    def check_python(self) -> None:
        """Raise :class:`KitError` if the kit is for another Python than this one."""
        here = f"cp{sys.version_info.major}{sys.version_info.minor}"
        if here != self.python:
            wanted = f"{self.python[2]}.{self.python[3:]}"
            raise KitError(
                f"this kit is for Python {wanted} ({self.python}); {sys.executable} is {here}: name another with "
                f"run.sh --python python{wanted}, or pack the kit again with --python {here[2]}.{here[3:]}"
            )


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest:
    """Read the manifest of a kit's folder; raises :class:`KitError` if there is none or it is damaged."""
    path = folder / name
    try:
        data: Any = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise KitError(f"{path} has the format {data['format']}; this program reads {FORMAT}: pack the kit again")
        return Manifest(**{**data, "groups": tuple(_read_group(entry) for entry in data["groups"])})
    except FileNotFoundError:
        raise KitError(f"{folder} is no kit: it has no {MANIFEST}; pack one with `make gpu-kit`") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise KitError(f"{path} cannot be read ({exc!r}): copy it again") from exc


def _read_group(entry: Mapping[str, Any]) -> Group:
    parts = tuple(Part(**part) for part in entry["parts"])
    return Group(**{**entry, "folders": tuple(entry["folders"]), "parts": parts})


def write_manifest(folder: Path, manifest: Manifest, name: str = MANIFEST) -> None:
    """Write the manifest atomically: it is what makes a folder a kit."""
    new = folder / f"{name}.new"
    new.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    new.replace(folder / name)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- packing ----------------------------------------------------------------------------------------------------------


def write_group(
    folder: Path,
    name: str,
    folders: Mapping[str, Path],
    inputs: Mapping[str, str],
    *,
    limit: int = PART_BYTES,
    preset: int | None = None,
) -> Group:
    """Archive ``folders`` (name in the archive to path) into parts of at most ``limit`` bytes in ``folder``.

    The same input gives the same bytes.
    """
    for old in folder.glob(f"{name}.tar.xz.*"):
        old.unlink()
    filters = list(FILTERS) if preset is None else [{"id": lzma.FILTER_LZMA2, "preset": preset}]
    whole = folder / f"{name}.tar.xz.whole"
    with (
        lzma.open(whole, "wb", check=lzma.CHECK_CRC64, filters=filters) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for title, root in sorted(folders.items()):
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    archive.add(path, f"{title}/{path.relative_to(root)}", filter=_plain)
    parts = tuple(Part(path.name, sha256_of(path), path.stat().st_size) for path in _split(whole, limit))
    return Group(name, tuple(sorted(folders)), dict(inputs), sum(part.size_bytes for part in parts), parts)


def _split(whole: Path, limit: int) -> list[Path]:
    """Cut a file into ``….00``, ``….01`` and so on, and remove it."""
    paths: list[Path] = []
    with whole.open("rb") as stream:
        while content := stream.read(limit):
            paths.append(whole.with_suffix(f".{len(paths):02}"))
            paths[-1].write_bytes(content)
    whole.unlink()
    return paths


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove everything that differs from one packing to the next."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


# --- unpacking --------------------------------------------------------------------------------------------------------


def find(part: Part, folders: Sequence[Path]) -> Path | None:
    """Path of a part, in the first of ``folders`` that holds it."""
    return next((folder / part.name for folder in folders if (folder / part.name).is_file()), None)


def complaints(group: Group, folders: Sequence[Path]) -> list[str]:
    """List the parts of a group that are missing or damaged, by name."""
    return [found for part in group.parts if (found := _complaint(part, folders))]


def _complaint(part: Part, folders: Sequence[Path]) -> str:
    path = find(part, folders)
    if path is None:
        return f"{part.name} is missing"
    if path.stat().st_size != part.size_bytes:
        return f"{part.name} has {path.stat().st_size} bytes, not {part.size_bytes}"
    return "" if sha256_of(path) == part.sha256 else f"{part.name} is damaged: its SHA-256 is not that of {MANIFEST}"


def unpack_group(group: Group, target: Path, folders: Sequence[Path]) -> None:
    """Check every part of a group, then unpack it into ``target``.

    Raises:
        KitError: a part is missing or damaged; the message names each of them.
    """
    if found := complaints(group, folders):
        raise KitError(f"group {group.name}: {'; '.join(found)}: copy it again")
    target.mkdir(parents=True, exist_ok=True)
    whole = target.with_name(f"{target.name}.tar.xz")
    with whole.open("wb") as stream:
        for part in group.parts:
            if path := find(part, folders):
                stream.write(path.read_bytes())
    with tarfile.open(whole, "r:xz") as archive:
        archive.extractall(target, filter="data")
    whole.unlink()
