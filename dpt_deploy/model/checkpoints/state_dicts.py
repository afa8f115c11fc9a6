"""Find the weights in a training checkpoint: which dictionary holds the network, and under which prefix.

Training scripts keep the weights under many names (``model``, ``net``, ``params_ema``, …), and wrappers put a prefix
before every key (``module.``, ``model.``, ``net.``). Names are therefore not listed here: a dictionary holds a network
when the keys of a known family are in it, after one prefix. Everything else in the file is reported with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.model.families.family import matches
from dpt_deploy.model.families.registry import detect, families

_DEPTH = 3  # dictionaries inside dictionaries; bounded, since a crafted file can hold itself
_DICTIONARIES = 64  # on one level
_PREFIXES = 16  # in one dictionary
_USUAL = ("model", "state_dict", "model_state_dict")  # a choice among several raw copies falls on these, in this order
_USUAL_PREFIX = re.compile(r"(module\.|model\.)*")
_WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of PyTorch, at any depth
_AVERAGED = re.compile(r"(^|[._])(ema|ewa|swa|avg|averaged?|shadow|polyak)\d*([._]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class StateDict:
    """The weights of one network in a file.

    ``entry`` names the place in the file, such as ``state_dict.model``; empty for the file itself. ``others`` are the
    places of further networks. ``unused`` has everything else, each with the reason.
    """

    entry: str
    values: dict[str, Any]
    others: tuple[str, ...] = ()
    unused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Copy:
    """One network in the file: the path of its dictionary, and the prefix of its keys there."""

    path: tuple[str, ...]
    prefix: str

    @property
    def entry(self) -> str:
        return ".".join((*self.path, *filter(None, [self.prefix.removesuffix(".")])))

    @property
    def averaged(self) -> bool:
        return _AVERAGED.search(self.entry) is not None


def find_state_dict(entries: Mapping[str, Any], source: Path, entry: str = "") -> StateDict:
    """The weights of the network in ``entries``, a loaded checkpoint.

    Of raw and averaged weights (EMA) the raw ones are taken, as a script without averaging has them; ``entry`` names
    others. If no known network is found, the dictionary with the most tensors is returned, for a message about it.

    Raises:
        BadFileError: there is no ``entry``; or several networks are there and none of them is the usual one.
    """
    dictionaries = {path: _cleaned(found) for path, found in _dictionaries(entries)}
    copies = [_Copy(path, prefix) for path, found in dictionaries.items() for prefix in _prefixes(found)]
    chosen = _chosen(copies, source, entry)
    if chosen is None:
        path = max(dictionaries, key=lambda path: _tensors(dictionaries[path]))
        return StateDict(".".join(path), _stripped(dictionaries[path]))
    others = tuple(copy.entry for copy in copies if copy != chosen)
    inside = [copy.prefix for copy in copies if copy.path == chosen.path and _within(copy.prefix, chosen.prefix)]
    keys = [
        key
        for key in dictionaries[chosen.path]
        if key.startswith(chosen.prefix) and not any(key.startswith(prefix) for prefix in inside)
    ]
    values = {key.removeprefix(chosen.prefix): dictionaries[chosen.path][key] for key in keys}
    unused = (*_next_to(dictionaries, chosen, set(keys)), *_around(entries, chosen, others))
    return StateDict(chosen.entry, values, others, unused)


def _dictionaries(entries: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the dictionaries under text keys, the outer ones first; one that is there again is not entered again."""
    level: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), entries)]
    seen = set()
    for _ in range(_DEPTH + 1):
        inner: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
        for path, found in level:
            yield path, found
            if id(found) in seen:
                continue
            seen.add(id(found))
            inner += [
                ((*path, name), value)
                for name, value in found.items()
                if isinstance(name, str) and isinstance(value, dict)
            ]
        level = inner[:_DICTIONARIES]


def _cleaned(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary with text keys, without the names that PyTorch's own wrappers add; as it is if two would meet."""
    plain = {str(key): value for key, value in entries.items()}
    cleaned = {_WRAPPERS.sub("", key): value for key, value in plain.items()}
    return cleaned if len(cleaned) == len(plain) else plain


def _prefixes(entries: Mapping[str, Any]) -> list[str]:
    """Each prefix after which the keys are those of a known family, the shortest first.

    A prefix inside another one is left out if the outer network is none without its keys: it is a part of that network.
    """
    keys = [key for key, value in entries.items() if isinstance(value, Tensor)]
    marks = list(dict.fromkeys(family.marks[0] for family in families()))
    candidates = {
        key[:start]
        for key in keys
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", key)))
        if any(matches(mark, key[start:]) for mark in marks)
    }
    found: list[str] = []
    for prefix in sorted(candidates, key=lambda prefix: (len(prefix), prefix))[:_PREFIXES]:
        around = [outer for outer in found if _within(prefix, outer)]
        is_part = any(not _is_network(keys, outer, without=prefix) for outer in around)
        if not is_part and _is_network(keys, prefix):
            found.append(prefix)
    return found


def _is_network(keys: Iterable[str], prefix: str, *, without: str | None = None) -> bool:
    """True if the keys after ``prefix``, except those that begin with ``without``, are those of a known family."""
    inside = (key for key in keys if key.startswith(prefix) and not (without and key.startswith(without)))
    return detect(key.removeprefix(prefix) for key in inside) is not None


def _chosen(copies: list[_Copy], source: Path, entry: str) -> _Copy | None:
    names = ", ".join(copy.entry or "the file itself" for copy in copies) or "none"
    if entry:
        named = [copy for copy in copies if copy.entry == entry]
        if not named:
            raise BadFileError(
                f"{source} has no network at {entry!r}; networks found: {names}",
                hint="give one of these with --entry, or leave --entry out",
            )
        return named[0]
    pool = [copy for copy in copies if not copy.averaged] or copies
    if len(pool) < 2:
        return pool[0] if pool else None
    usual = [copy for copy in pool if _USUAL_PREFIX.fullmatch(copy.prefix) and set(copy.path) <= set(_USUAL)]
    if not usual:
        raise BadFileError(
            f"{source} holds {len(pool)} networks: {names}", hint=f"choose one, for example --entry {pool[0].entry}"
        )
    return min(usual, key=lambda copy: ([_USUAL.index(name) for name in copy.path], len(copy.prefix)))


def _tensors(entries: Mapping[str, Any]) -> int:
    return sum(isinstance(value, Tensor) for value in entries.values())


def _stripped(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Without the usual prefixes, if every key has them."""
    prefix = next(
        (name for name in ("module.", "model.") if entries and all(key.startswith(name) for key in entries)), ""
    )
    return _stripped({key.removeprefix(prefix): value for key, value in entries.items()}) if prefix else dict(entries)


def _within(inner: str, outer: str) -> bool:
    return inner != outer and inner.startswith(outer)


def _next_to(
    dictionaries: Mapping[tuple[str, ...], Mapping[str, Any]], chosen: _Copy, used: set[str]
) -> list[tuple[str, str]]:
    """Entries of the chosen dictionary that are not of the network."""
    where = f"not under {chosen.prefix!r}" if chosen.prefix else "of another network"
    return [
        (key, where if isinstance(value, Tensor) else _kind(value))
        for key, value in dictionaries[chosen.path].items()
        if key not in used and not isinstance(value, dict)
    ]


def _around(entries: Mapping[str, Any], chosen: _Copy, others: tuple[str, ...]) -> list[tuple[str, str]]:
    """Entries of the dictionaries around the chosen one, and dictionaries inside it."""
    found = []
    for depth in range(len(chosen.path) + 1):
        path, taken = chosen.path[:depth], (*chosen.path, "")[depth]
        for name, value in entries.items():
            inside = depth == len(chosen.path)  # its tensors are those of the network
            if name == taken or (inside and not isinstance(value, dict)):
                continue
            place = ".".join((*path, str(name)))
            networks = [other for other in others if f"{other}.".startswith(f"{place}.")]
            found.append((place, f"another network (--entry {networks[0]} takes it)" if networks else _kind(value)))
        entries = entries[taken] if taken else {}
    return found


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor outside the network"
    if isinstance(value, dict | list | tuple):
        return f"{type(value).__name__} of {len(value)}, not of the network"
    return "not a tensor"
