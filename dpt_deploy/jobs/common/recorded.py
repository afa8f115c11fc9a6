"""Recorded runs that a new run is compared with: reading one, and checking that the two are comparable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dpt_deploy.core.documents import parse_json, read_regular
from dpt_deploy.core.errors import BadFileError, IncompatibleError, UsageError
from dpt_deploy.core.limits import RECORD

Parsed = TypeVar("Parsed")


def read_record(path: Path, parse: Callable[[Any], Parsed], *, what: str, hint: str, max_bytes: int) -> Parsed:
    """Read a JSON record and parse it; ``parse`` may raise any error of Python for a malformed one.

    Raises:
        BadFileError: the file cannot be read, is larger than ``max_bytes``, or is not ``what`` it should be.
    """
    raw = read_regular(path, replace(RECORD, default=max_bytes), what="recorded run", hint=hint)
    try:
        return parse(parse_json(raw))
    except KeyError as exc:
        raise BadFileError(f"{path} is not {what}: {exc} is missing", hint=hint) from exc
    except (UsageError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise BadFileError(f"{path} is not {what}: {exc}", hint=hint) from exc


def require_same(source: str, facts: Iterable[tuple[str, object, object]], *, hint: str) -> None:
    """Require that a recorded run and the new one have the same facts: (name, recorded, new).

    Raises:
        IncompatibleError: some differ; the message names all of them.
    """
    different = [f"{name} {recorded!r}, here {new!r}" for name, recorded, new in facts if recorded != new]
    if different:
        raise IncompatibleError(f"{source} is not comparable: {'; '.join(different)}", hint=hint)
