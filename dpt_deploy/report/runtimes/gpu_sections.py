"""Markdown for what the GPU kit measured; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, machine, markdown, source

_Row = Mapping[str, Any]
_REACHED = {
    "": "not installed",
    "import": "imported; no engine was built",
    "build": "built an engine and refused to load it",
    "load": "loaded an engine and failed to run it",
    "run": "ran an engine with a wrong result",
    "compare": "built, loaded and ran an engine with the right result",
}


def _gpu(result: Result, folder: str) -> str:
    data = result.data
    tools = f"torch {data['torch']['version']}; engines by {data['library']} {data['version']}"
    about = f"{machine(data['environment'])}, {tools}; {data['recorded'][:10]}.\n"
    parts = [about, *_tried(data["tried"]), *_verified(data["verified"]), *_native(data["native"])]
    return "\n".join([*parts, *_timed(data["timed"]), source(result, folder)])


def _tried(tried: list[_Row]) -> Iterator[str]:
    """A small network in FP16, with each version of the library."""
    rows = [(f"{each['library']} {each['version']}".strip(), _REACHED[each["reached"]]) for each in tried]
    yield markdown(TextTable(("library", "small FP16 network"), tuple(rows)))
    yield from (f"{each['version']}: `{message}`\n" for each in tried for message in each["messages"])


def _verified(verified: list[_Row]) -> Iterator[str]:
    engines = [each for each in verified if each["runtime"] in ("trt", "native")]
    if not engines:
        return
    yield "Outputs compared with PyTorch in FP32, errors over the range of its output:\n"
    heads = ("engine", "runtime", "shapes", "", "max", "mean", "allowed", "layers' time")
    yield markdown(TextTable(heads, tuple(_engine(each) for each in engines)))


def _engine(each: _Row) -> tuple[str, ...]:
    allowed = f"{each['tolerance']['max']:.1e}, {each['tolerance']['mean']:.1e}"
    return (
        f"{each['model']}, {each['weights'].partition(',')[0]} weights",
        each["runtime"],
        "; ".join(each["shapes"]),
        "passes" if each["passed"] else "fails",
        f"{each['max']:.1e}",
        f"{each['mean']:.1e}",
        allowed,
        _layers(each["layer_times"]),
    )


def _layers(times: _Row | None) -> str:
    """Time of the engine's own layers by type, at one shape."""
    if times is None:
        return "not measured"
    kinds = sorted(times["precision"].items(), key=lambda entry: -entry[1])
    found = [f"{name} {1e3 * seconds:.2f} ms" for name, seconds in kinds]
    return f"{times['shape']}: {', '.join(found)}; of it attention {1e3 * times['attention']:.2f} ms"


def _native(native: list[_Row]) -> Iterator[str]:
    if not native:
        return
    yield (
        "The C++ library on full-HD images from host to host, which it resizes on the GPU (`dpt_bench`); medians in "
        "ms. The first image waits until the library has compiled its kernels for the size:\n"
    )
    rows = tuple(
        (
            each["model"],
            row["size"],
            str(row["frames"]),
            *(f"{row[f'{part}_ms']['p50']:.2f}" for part in ("total", "prepare", "model", "finish")),
            f"{row['first_ms'] / 1e3:.1f} s",
        )
        for each in native
        for row in each["rows"]
    )
    yield markdown(TextTable(("model", "size", "images", "whole", "prepare", "network", "finish", "first"), rows))


def _timed(timed: list[_Row]) -> Iterator[str]:
    """Timings of candidates that were interleaved."""
    if not timed:
        return
    yield "Interleaved candidates, p50 in ms with its 95 % interval:\n"
    rows = tuple(
        (
            each["model"],
            f"{row['size']}, batch {row['batch']}",
            row["contender"],
            f"{row['p50_ms']:.2f} ({row['interval_ms'][0]:.2f} to {row['interval_ms'][1]:.2f})",
            f"{row['images_per_second']:.0f}",
        )
        for each in timed
        for row in each["rows"]
    )
    yield markdown(TextTable(("model", "shape", "candidate", "time", "images/s"), rows))


GPU_KINDS: dict[str, Section] = {
    "gpu": Section(
        "Engines on a GPU",
        "Steps of `tools/gpu_kit/run.sh` on a GPU machine ([README](../tools/gpu_kit/README.md)). Times of different\n"
        "tables are of different runs: compare within a table only.",
        _gpu,
    ),
}
