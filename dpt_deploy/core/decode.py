"""Conversion of JSON values to frozen dataclasses; every value is checked against its type hint."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable


@runtime_checkable
class TaggedVariants(Protocol):
    """A class with variants: the value itself says which of them it is."""

    def variant(self, value: dict[str, Any]) -> type[Any]:
        """The class of ``value``; raises :class:`ValueError` when it says none."""


def decode(hint: Any, value: Any, where: str = "") -> Any:
    """Convert ``value`` to the type ``hint``: a dataclass, tuple, dict, union, literal, or plain type.

    A key may be missing if its field has a default. An unknown key is ignored.

    Raises:
        ValueError: the value has another type; the message names its place and the expected type.
    """
    if hint is Any:
        return value
    if isinstance(hint, TaggedVariants):
        hint = _variant(hint, value, where)
    if is_dataclass(hint):
        return _dataclass(hint, value, where)
    origin = get_origin(hint)
    if origin in _BY_ORIGIN:
        return _BY_ORIGIN[origin](get_args(hint), value, where)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _wrong(where, value, "null" if hint is types.NoneType else hint.__name__)
    return value


def _variant(hint: TaggedVariants, value: Any, where: str) -> type[Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    try:
        return hint.variant(value)
    except ValueError as exc:
        raise ValueError(_at(where, str(exc))) from exc


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    known = {field.name: field for field in fields(kind)}
    required = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if missing := required - set(value):
        raise ValueError(f"{_at(where, min(missing))} is missing")
    hints = get_type_hints(kind)
    found = {name: part for name, part in value.items() if name in known}
    return kind(**{name: decode(hints[name], part, _at(where, name)) for name, part in found.items()})


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, value, "a list")
    kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} entries; expected {len(kinds)}")
    return tuple(decode(kind, part, f"{where}[{i}]") for i, (kind, part) in enumerate(zip(kinds, value, strict=True)))


def _dict(args: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    return {key: decode(args[1], part, _at(where, key)) for key, part in value.items()}


def _literal(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in args:
        raise _wrong(where, value, " or ".join(map(str, args)))
    return value


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Decode the alternative that fits: null, one dataclass or list, or plain types."""
    if value is None and types.NoneType in args:
        return None
    kinds = [kind for kind in args if kind is not types.NoneType]
    if len(kinds) == 1:
        return decode(kinds[0], value, where)
    if type(value) not in kinds:
        raise _wrong(where, value, " or ".join(kind.__name__ for kind in kinds))
    return value


_BY_ORIGIN = {tuple: _tuple, dict: _dict, Literal: _literal, Union: _union, types.UnionType: _union}


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where or 'it'} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
