"""Sections on a model server under load and on archives of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, machine, markdown, source

_SERVED = {
    "one_instance": "one instance",
    "two_instances": "two instances",
    "one_instance_bounded_queue": "one instance, bounded queue",
}


def _serving(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(
        (
            title,
            str(level["concurrency"]),
            f"{level['requests_per_second']:.1f}",
            f"{level['p50_ms']:.0f} ms",
            f"{level['p99_ms']:.0f} ms",
            str(level["requests"]),
            str(level["wrong"] + level["failed"]),
        )
        for key, title in _SERVED.items()
        for level in data[key]
    )
    heads = ("model", "clients", "requests/s", "p50", "p99", "requests", "wrong or failed")
    before, after = (value / 1e6 for value in data["private_memory_bytes"])
    files = " and ".join(map(str, data["shared_memory_files"]))
    return (
        f"{machine(data['environment'])}; {data['recorded'][:10]}. Sizes {', '.join(data['sizes'])} in turn; "
        f"{data['protocol']}. Memory of the server and its back ends: {before:.0f} MB before, {after:.0f} MB after; "
        f"regions of shared memory: {files}.\n\n{markdown(TextTable(heads, rows))}\n{source(result, folder)}"
    )


def _archives(result: Result, folder: str) -> str:
    data = result.data
    rows = tuple(_candidate(model, facts, name) for model, facts in data["models"].items() for name in data["names"])
    heads = ("model", "images", "command", "start", "images/s after it", "times the seconds of run")
    load = ", ".join(f"{value:.1f}" for value in data["load_average_before"])
    return (
        f"{machine(data['environment'])}, Ray {data['ray']}, load average {load} before; {data['recorded'][:10]}. "
        f"{data['turns']} turns; medians and range. All commands wrote the same bytes.\n\n"
        f"{markdown(TextTable(heads, rows))}\n{source(result, folder)}"
    )


def _candidate(model: str, facts: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = facts["commands"][name]
    low, high = found["times_run_range"]
    return (
        model,
        str(facts["images"]),
        name,
        f"{found['start_s']:.1f} s",
        f"{found['images_per_second']:.1f}",
        "-" if name == "run" else f"{found['times_run']:.2f} ({low:.2f} to {high:.2f})",
    )


FLEET_KINDS: dict[str, Section] = {
    "serving": Section(
        "A model server under load",
        "`nox -s serve -- 60`: a real Triton 2.51 on the processor; its ONNX back end is replaced by a fake that runs\n"
        "ONNX Runtime with one thread. Clients share the cores and each waits for its answer before it sends again.\n"
        "Every answer is compared.",
        _serving,
    ),
    "archives": Section(
        "Archives with and without Ray",
        "`nox -s ray -- IMAGES`: whole commands on one machine, on two folders whose sizes differ four times; the\n"
        "start is what remains when the time for the images is taken away.",
        _archives,
    ),
}
