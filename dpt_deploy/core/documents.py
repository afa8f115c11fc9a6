"""TOML and JSON from files: size, encoding and nesting are checked, and every failure is a stated error."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.limits import MAX_NESTING, Limit


def read_regular(path: Path, limit: Limit, *, what: str, hint: str) -> bytes:
    """Read a regular file of at most ``limit`` bytes; a pipe or device is refused before it can block.

    Raises:
        BadFileError: ``what`` is missing, not a regular file, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadFileError(f"{what} {path} cannot be read: it is not a regular file", hint=hint)
        limit.check(f"{what} {path}", status.st_size)
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise BadFileError(f"{what} {path} cannot be read: it does not exist", hint=hint) from exc
    except (OSError, ValueError, RuntimeError) as exc:  # a name with a null character; a link that leads to itself
        reason = getattr(exc, "strerror", None) or exc
        raise BadFileError(f"{what} {path} cannot be read: {reason}", hint=hint) from exc


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: not JSON, a key that is given twice, or nested more than :data:`MAX_NESTING` levels deep.
    """
    try:
        return _nested(json.loads(text, object_pairs_hook=_object))
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def parse_toml(raw: bytes) -> dict[str, Any]:
    """Parse TOML in UTF-8.

    Raises:
        ValueError: not UTF-8, not TOML, or nested more than :data:`MAX_NESTING` levels deep.
    """
    try:
        table: dict[str, Any] = _nested(tomllib.loads(raw.decode()))
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    return table


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} is given twice")
    return found


def _nested(value: Any) -> Any:
    """Return ``value``; without recursion, for what is nested deeper than the interpreter's stack."""
    level: list[Any] = [value]
    for _ in range(MAX_NESTING + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {MAX_NESTING} levels deep")


def _parts(value: Any) -> Iterable[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (part for part in inner if isinstance(part, dict | list))
