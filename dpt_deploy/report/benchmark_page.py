"""Recorded results as one page: every number in it comes from a file that is named beside it.

A result is a JSON document that says in ``kind`` what it is (older ones in the first words of their file name). To show
a new kind, write a function from its results to Markdown and enter it in :data:`KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.report.precision_sections import PRECISION_KINDS
from dpt_deploy.report.sections import BENCH_KINDS, Result
from dpt_deploy.report.study_sections import STUDY_KINDS

HEAD = """# Measured

Made by `python benchmarks/report.py` from the files in `{folder}/`; change those, not this.
"""
OTHER = "Other results"
KINDS = {**STUDY_KINDS, **PRECISION_KINDS, **BENCH_KINDS}


@dataclass(frozen=True)
class BenchmarkPage:
    """The page, and the pictures it shows, by the name of the result that each is drawn from."""

    text: str
    pictures: Mapping[str, Result]


def read_results(folder: Path) -> list[Result]:
    """Every result in ``folder``, by name.

    Raises:
        BadFileError: no folder, or a file in it is no JSON object.
    """
    if not folder.is_dir():
        raise BadFileError(f"{folder} is no folder of results", hint="record one with `dpt-deploy bench --out FOLDER`")
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def render(results: Sequence[Result], *, folder: str = "results") -> BenchmarkPage:
    """The page over ``results``, which it links to as files in ``folder``. The same results give the same page.

    Raises:
        BadFileError: a result lacks what its kind has.
    """
    parts = [HEAD.format(folder=folder)]
    pictures: dict[str, Result] = {}
    for kind, section in KINDS.items():
        own = [result for result in results if kind_of(result) == kind]
        if own:
            parts.append(f"## {section.title}\n\n{section.about}\n")
            parts += [_shown(result, kind, folder) for result in own]
            pictures |= {result.picture: result for result in own if section.draw}
    rest = [result for result in results if kind_of(result) is None]
    if rest:
        links = "".join(f"- [{result.name}]({folder}/{result.name})\n" for result in rest)
        parts.append(f"## {OTHER}\n\n{links}")
    return BenchmarkPage("\n".join(parts), pictures)


def kind_of(result: Result) -> str | None:
    """The kind a result says it is, else the one its name begins with; None for one that is not known."""
    if "kind" in result.data:
        return result.data["kind"] if result.data["kind"] in KINDS else None
    return next((kind for kind in KINDS if result.name.startswith(f"{kind}-")), None)


def write_benchmark_page(folder: Path | str, target: Path | str, *, redraw: bool = False) -> list[Path]:
    """Write the page over the results in ``folder`` to ``target`` beside it, and the pictures it shows into ``folder``.

    A picture that is there stays, unless ``redraw``. Returns what was written.

    Raises:
        BadFileError: a result cannot be read, or lacks what its kind has.
        MissingExtraError: matplotlib is not installed, and a picture is to be drawn.
        ResourceError: something cannot be written.
    """
    folder, target = Path(folder), Path(target)
    report = render(read_results(folder), folder=folder.name)
    written = []
    for name, result in report.pictures.items():
        draw = KINDS[kind_of(result) or ""].draw
        if draw and (redraw or not (folder / name).is_file()):
            draw(result.data, folder / name)
            written.append(folder / name)
    atomic_write_bytes(target, report.text.encode())
    return [*written, target]


def _read(path: Path) -> Result:
    try:
        data: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise BadFileError(f"result {path} cannot be read ({exc})", hint="record it again, or remove it") from exc
    if not isinstance(data, dict):
        raise BadFileError(f"result {path} holds no JSON object", hint="record it again, or remove it")
    return Result(path.name, data)


def _shown(result: Result, kind: str, folder: str) -> str:
    try:
        return KINDS[kind].show(result, folder)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as exc:
        raise BadFileError(
            f"result {result.name} lacks what a result of kind {kind!r} has ({exc!r})", hint="record it again"
        ) from exc
