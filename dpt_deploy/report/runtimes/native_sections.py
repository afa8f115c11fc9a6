"""Markdown for the C++ runtime's measurements; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, markdown, source


def _native(result: Result, folder: str) -> str:
    data = result.data
    start = data["start_to_first_result_s"]
    table = TextTable(
        (
            "model",
            "rounds",
            "throughput over Python",
            "model alone, time over Python",
            "time outside the model",
            "output",
        ),
        tuple(
            (
                each["model"],
                str(each["rounds"]),
                _quartiles(each["end_to_end_python_over_cpp"]),
                _quartiles(each["model_cpp_over_python"]),
                f"{100 * each['cpp_share_around_the_model']:.1f} %",
                "bit for bit equal" if each["equal_in_every_bit"] else "differs",
            )
            for each in data["models"]
        ),
    )
    first = f"{start['cpp']:.2f} s (Python: {start['python']:.2f} s) with {data['models'][0]['model']}"
    lines = [
        f"- {each['model']}: full-HD throughput is {_quartiles(each['end_to_end_python_over_cpp'])} times Python's.\n"
        for each in data["models"]
    ]
    lines.append(f"- A cold start to the first written map takes {first}.\n")
    tools = ", ".join(f"{name} {version}" for name, version in data["tools"].items())
    where = f"{data['processor']}, {data['threads']} thread, {tools}. Medians and quartiles.\n"
    return "\n".join([where, "".join(lines), markdown(table), source(result, folder)])


def _quartiles(values: list[float]) -> str:
    middle, low, high = values
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _native_parity(result: Result, folder: str) -> str:
    data = result.data
    table = TextTable(
        ("model", "task", "photographs", "weights", "difference"),
        tuple(
            (
                each["model"],
                each["task"],
                str(len(each["photographs"])),
                each["weights"]["kind"],
                _difference(each["photographs"]),
            )
            for each in data["models"]
        ),
    )
    return f"{data['processor']}, {data['threads']} thread.\n\n{markdown(table)}\n{source(result, folder)}"


def _difference(cases: list[Mapping[str, Any]]) -> str:
    if "equal_labels" in cases[0]:
        return f"{100 * min(case['equal_labels'] for case in cases):.2f} % of labels equal"
    if all(case["equal_in_every_bit"] for case in cases):
        return "none: equal bit for bit"
    return f"{max(case['max_of_range'] for case in cases):.1e} of the range"


NATIVE_KINDS: dict[str, Section] = {
    "native": Section(
        "C++ runtime: speed",
        "`python benchmarks/native.py`: the C++ runtime and Python on a full-HD image, interleaved, on ONNX Runtime.",
        _native,
    ),
    "native-parity": Section(
        "C++ runtime: parity",
        "`python benchmarks/native_parity.py`: outputs of the C++ runtime compared with Python's on photographs.",
        _native_parity,
    ),
}
