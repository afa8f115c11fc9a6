"""Conversion of JSON values to frozen dataclasses; every value is checked against its type hint.

A hint may carry rules (``Annotated[int, Range(1, 8)]``, see :mod:`dpt_deploy.core.ranges`), and a dataclass may know
its own ``problems``. Without a rule, a float is finite, an integer fits 64 bits, and a string is valid Unicode.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable

_LARGEST = 1 << 63


class ValueRule(Protocol):
    """Condition on a value besides its type; metadata of ``Annotated``."""

    def check(self, value: Any) -> None:
        """Raise :class:`ValueError` with the found and the expected value."""


@runtime_checkable
class HasProblems(Protocol):
    """A dataclass that knows which of its values contradict each other."""

    def problems(self) -> Iterable[tuple[str, str]]:
        """List what is wrong, each with a hint."""


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
    origin = get_origin(hint)
    if origin is Annotated:
        return _ruled(hint, value, where)
    if origin in _BY_ORIGIN:
        return _BY_ORIGIN[origin](get_args(hint), value, where)
    if _has_variants(hint):
        hint = _variant(hint, value, where)
    return _dataclass(hint, value, where) if is_dataclass(hint) else _plain(hint, value, where)


def _ruled(hint: Any, value: Any, where: str) -> Any:
    """Decode a value with rules; a rule alone decides whether a float may be infinite."""
    kind, *rules = get_args(hint)
    found = _typed(kind, value, where) if kind is float else decode(kind, value, where)
    for rule in rules:
        try:
            rule.check(found)
        except ValueError as exc:
            raise ValueError(f"{where or 'it'} is {_short(value)}; {exc}") from exc
    return found


def _plain(hint: Any, value: Any, where: str) -> Any:
    found = _typed(hint, value, where)
    if isinstance(found, float) and not math.isfinite(found):
        raise _wrong(where, value, "a finite number")
    return found


def _typed(hint: Any, value: Any, where: str) -> Any:
    if type(value) is int and not -_LARGEST <= value < _LARGEST:
        raise _wrong(where, value, "a smaller number, of at most 63 bits")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _wrong(where, value, "null" if hint is types.NoneType else hint.__name__)
    if type(value) is str:
        _check_text(value, where)
    return value


def _check_text(value: str, where: str) -> None:
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(where, value, "valid Unicode without null characters")


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
    hints = hints_of(kind)
    found = {name: part for name, part in value.items() if name in known}
    made = kind(**{name: decode(hints[name], part, _at(where, name)) for name, part in found.items()})
    if _has_problems(kind):
        for problem, _ in made.problems():
            raise ValueError(f"{where}: {problem}" if where else problem)
    return made


# A check against a protocol and the hints of a class take longer than all the rest, and a recipe asks a hundred times.
@cache
def _has_variants(kind: Any) -> bool:
    return isinstance(kind, TaggedVariants)


@cache
def _has_problems(kind: Any) -> bool:
    return issubclass(kind, HasProblems)


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Type hints of a dataclass by field, with the rules of ``Annotated``."""
    return get_type_hints(kind, include_extras=True)


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
    return {decode(args[0], key, where): decode(args[1], part, _at(where, key)) for key, part in value.items()}


def _literal(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if type(value) not in {type(arg) for arg in args} or value not in args:
        raise _wrong(where, value, " or ".join(map(str, args)))
    return value


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Decode the alternative that fits: null, one dataclass or list, or plain types."""
    if value is None and types.NoneType in args:
        return None
    kinds = [kind for kind in args if kind is not types.NoneType]
    if len(kinds) == 1:
        return decode(kinds[0], value, where)
    fitting = next((kind for kind in kinds if _base(kind) is type(value)), None)
    if fitting is None:
        raise _wrong(where, value, " or ".join(_base(kind).__name__ for kind in kinds))
    return decode(fitting, value, where)


def _base(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


_BY_ORIGIN = {tuple: _tuple, dict: _dict, Literal: _literal, Union: _union, types.UnionType: _union}


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where or 'it'} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    if type(value) is int and not -_LARGEST <= value < _LARGEST:
        return f"a number of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # such a number, or deep nesting, inside
        text = f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:39]}…"
