"""Pinned hashes of downloads: the first full hash that was seen of a file, where its authors publish 8 digits or none.

A pin lies next to the file in the user's cache, in the form of ``sha256sum``. Eight digits can be met on purpose; a
pin makes a later change show, as ``known_hosts`` does for keys.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from dpt_deploy.core.disk.private import open_own_file
from dpt_deploy.core.files import atomic_write_bytes, write_errors

FULL = 64  # hexadecimal digits of a SHA-256
_LINE = 4096  # characters: a pin is one line of sha256sum


class HashMismatch(NamedTuple):
    """A hash that is not the expected one: what was found, and what to do."""

    found: str
    hint: str


def mismatch(path: Path, digest: str, published: str) -> HashMismatch | None:
    """Compare the hash of a copy of ``path`` with the ``published`` digits and with the pin; None where it fits."""
    if not digest.startswith(published):
        return HashMismatch(
            f"has SHA-256 {digest[:8]}…; expected {published[:8]}…"
            if digest[:8] != published[:8]
            else f"has SHA-256 {digest}; expected {published}",
            hint="run again; if it happens again, the source is not the published file",
        )
    pinned = "" if len(published) == FULL else _pinned(path)
    if not digest.startswith(pinned):
        return HashMismatch(
            f"has SHA-256 {digest}; the first copy had {pinned}",
            hint=f"do not use it; if its authors say that they replaced it, delete {pin_file(path)} and run again",
        )
    return None


def pin(path: Path, digest: str, published: str) -> None:
    """Pin ``digest`` as the hash of ``path``, unless all its digits are published or it has a pin."""
    if len(published) < FULL and not _pinned(path):
        atomic_write_bytes(pin_file(path), f"{digest}  {path.name}\n".encode())


def pin_file(path: Path) -> Path:
    """The file with the pin of ``path``."""
    return path.with_name(f"{path.name}.sha256")


def _pinned(path: Path) -> str:
    file = pin_file(path)
    if not os.path.lexists(file):
        return ""
    with write_errors(file), os.fdopen(open_own_file(file, os.O_RDONLY), encoding="utf-8", errors="replace") as stream:
        words = stream.read(_LINE).split()
    return words[0] if words and len(words[0]) == FULL else ""
