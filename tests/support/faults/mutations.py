"""Mutations of valid files, each made from a seed: of bytes, and of the tables in JSON and TOML.

A mutation is reproduced by its reader's name and its number.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Path = tuple[Any, ...]


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 1,
    lambda: 3,
    lambda: 1.5,
    lambda: 0.0,
    lambda: -0.0,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: 1e308,
    lambda: 5e-324,
    lambda: 2**31,
    lambda: 2**63 - 1,
    lambda: 2**63,
    lambda: -(2**63),
    lambda: 10**400,
    lambda: "",
    lambda: "x",
    lambda: "..",
    lambda: "../x",
    lambda: "/etc/passwd",
    lambda: "hf-hub:timm/resnet18",
    lambda: "local-dir:/tmp",
    lambda: "NUL",
    lambda: "a\0b",
    lambda: "\x1b]0;title\x07",
    lambda: "\ud800",
    lambda: "é" * 300,
    lambda: "7" * 5000,
    list,
    lambda: [None],
    lambda: [1] * 1000,
    lambda: [[1, 2], [3]],
    dict,
    lambda: {"x": 1},
    lambda: _deep(40),
    lambda: _deep(200),
)


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place in a tree of tables and lists but its root."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*at, key)
        yield from paths(part, (*at, key))


def mutated_tree(tree: Any, random: Random) -> tuple[Any, str]:
    """A copy of ``tree`` with one to three changes, and their description."""
    made, said = copy.deepcopy(tree), []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(paths(made))
        if not places:
            break
        *parents, last = random.choice(places)
        table = made
        for key in parents:
            table = table[key]
        change = random.choice((_replace, _replace, _replace, _replace, _remove, _repeat, _scale, _swap))
        said.append(f"{change.__name__} {[*parents, last]}")
        change(table, last, random)
    return made, "; ".join(said)


def _replace(table: Any, key: Any, random: Random) -> None:
    table[key] = random.choice(ODD_VALUES)()


def _remove(table: Any, key: Any, random: Random) -> None:
    del table[key]


def _repeat(table: Any, key: Any, random: Random) -> None:
    if isinstance(table, list):
        table.extend([table[key]] * random.choice((1, 5)))
    else:
        table[f"{key}_"] = table[key]


def _scale(table: Any, key: Any, random: Random) -> None:
    if isinstance(table[key], int | float):
        table[key] = table[key] * random.choice((-1, 2, 1000, 10**12))
    else:
        table[key] = random.choice(ODD_VALUES)()


def _swap(table: Any, key: Any, random: Random) -> None:
    keys = list(range(len(table))) if isinstance(table, list) else list(table)
    other = random.choice(keys)
    table[key], table[other] = table[other], table[key]


def mutated_bytes(data: bytes, random: Random) -> tuple[bytes, str]:
    """A copy of ``data`` with one change of bytes, and its description."""
    change = random.choice((_flip, _flip, _flip, _cut, _cut, _extend, _zero, _repeat_bytes, _insert))
    return change(bytearray(data), random), change.__name__


def _flip(data: bytearray, random: Random) -> bytes:
    for _ in range(random.choice((1, 1, 3, 20))):
        if data:
            data[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(data)


def _place(data: bytearray, random: Random) -> int:
    """A place anywhere, or near one of the ends, where formats keep their structure."""
    near = min(len(data), 128)
    return random.choice((random.randrange(len(data)), random.randrange(near), len(data) - 1 - random.randrange(near)))


def _cut(data: bytearray, random: Random) -> bytes:
    return bytes(data[: random.randrange(len(data) + 1)])


def _extend(data: bytearray, random: Random) -> bytes:
    return bytes(data) + random.randbytes(random.choice((1, 7, 1000)))


def _zero(data: bytearray, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = min(len(data), start + random.choice((1, 4, 64, 4096)))
    data[start:stop] = bytes(stop - start)
    return bytes(data)


def _repeat_bytes(data: bytearray, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    part = data[start : start + random.choice((1, 16, 256))]
    return bytes(data[:start] + part + data[start:])


def _insert(data: bytearray, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return bytes(data[:start]) + random.randbytes(random.choice((1, 4, 8))) + bytes(data[start:])


def mutated_json(data: bytes, random: Random) -> tuple[bytes, str]:
    """JSON with a changed value, a key twice, another encoding, deep nesting, or changed bytes."""
    kind = random.randrange(10)
    if kind < 7:
        tree, said = mutated_tree(json.loads(data), random)
        return json.dumps(tree).encode(), said
    if kind == 7:
        text = data.decode()
        return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))), "another encoding"
    if kind == 8:
        levels = random.choice((70, 5000, 100_000))
        opening = random.choice(('{"a":', "["))
        return data.rstrip()[:-1] + b',"deep":' + opening.encode() * levels, f"{levels} levels"
    if random.random() < 0.5:
        return data.rstrip()[:-1] + b',"kind":1,"kind":2,"format":1}', "keys twice"
    return mutated_bytes(data, random)


def mutated_toml(data: bytes, random: Random) -> tuple[bytes, str]:
    """TOML of a table (given as JSON) with a changed value, deep nesting, another encoding, or changed bytes."""
    table = json.loads(data)
    kind = random.randrange(10)
    if kind < 7:
        tree, said = mutated_tree(table, random)
        return _toml(tree).encode(errors="surrogatepass"), said
    text = _toml(table)
    if kind == 7:
        deep = (f"a = {'[' * 5000}", f"[{'.'.join('a' * 5000)}]", f"{'.'.join('a' * 100)} = 1", f"a = {'{b=' * 3000}")
        return f"{text}\n{random.choice(deep)}\n".encode(), "deep nesting"
    if kind == 8:
        return text.encode(random.choice(("utf-16", "utf-8-sig", "utf-32"))), "another encoding"
    return mutated_bytes(text.encode(), random)


def _toml(tree: Any) -> str:
    return "\n".join(f"{json.dumps(str(key), ensure_ascii=False)} = {_value(value)}" for key, value in tree.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = (f"{json.dumps(str(key), ensure_ascii=False)} = {_value(part)}" for key, part in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return '"null"'
    return str(value).lower()
