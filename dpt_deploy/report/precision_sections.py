"""Markdown for precisions: their cost and speed, and the survey of networks in every precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpt_deploy.core.environment import INT8_UNITS, sums_8_bits_in_16
from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.drawing import lazy_drawing
from dpt_deploy.report.sections import Result, Section, machine, markdown, source


def _sweep(result: Result, folder: str) -> str:
    data = result.data
    points = data["points"]
    facts = TextTable(
        ("model", "precision", "size", "runtime", "AbsRel", "ms (95 %)", "best"),
        tuple(
            (
                point["model"],
                f"{point['precision']} {point.get('approximation', '')}".strip(),
                point["size"],
                point["runtime"],
                f"{point['abs_rel']:.4f}",
                _interval(point["ms"], 1),
                "yes" if point["best"] else "",
            )
            for point in points
        ),
    )
    title = f"### {', '.join(dict.fromkeys(point['model'] for point in points))}\n"
    units = _without_units(data["environment"])
    where = f"{machine(data['environment'])}; {data['images']} images of {data['data']['name']}.{units}\n"
    picture = f"![error over time]({folder}/{result.picture})\n"
    changed = "Change of AbsRel in percent of the exact network in FP32 (95 %, paired over images):\n"
    parts = [title, where, markdown(facts), changed, markdown(_changes(data)), picture, source(result, folder)]
    return "\n".join(parts)


def _without_units(environment: Mapping[str, Any]) -> str:
    """A sentence if the processor is known to have no unit for 8-bit products."""
    if not sums_8_bits_in_16(environment.get("cpu_flags", ())):
        return ""
    return f" The processor has no unit for 8-bit products ({', '.join(INT8_UNITS.values())})."


def _changes(data: Mapping[str, Any]) -> TextTable:
    """The change of the error for every file at every size."""
    sizes = tuple(dict.fromkeys(point["size"] for point in data["points"]))
    rows = [(each["subject"], *(_signed(change) for change in each["abs_rel"])) for each in data["precisions"]]
    return TextTable(("file", *sizes), tuple(rows))


def _signed(change: Mapping[str, float]) -> str:
    return f"{change['value']:+.2f} ({change['low']:+.2f} to {change['high']:+.2f})"


def _precisions(result: Result, folder: str) -> str:
    rows = result.data["rows"]
    facts = TextTable(
        (
            "file",
            "MB",
            "size",
            "max",
            "mean",
            "max in PyTorch",
            "SQNR",
            "ONNX Runtime",
            "TensorRT-RTX",
            "plan MB",
            "low precision",
        ),
        tuple(_file(row) for row in rows if row["exported"]),
    )
    refused = "".join(f"- {line}\n" for line in _refusals(rows))
    parts = [f"{machine(result.data['environment'])}.\n", markdown(facts)]
    parts += [f"Refusals:\n\n{refused}"] if refused else []
    return "\n".join([*parts, source(result, folder)])


def _file(row: Mapping[str, Any]) -> tuple[str, ...]:
    found, engine = row["verify"], row["engine"]
    worth = row["worth"] or {}
    agreed = found.get("agreement")
    errors = [f"{found[key]:.1e}" if found.get(key) is not None else "-" for key in ("max", "mean")]
    return (
        row["model"],
        f"{row['bytes'] / 1e6:.1f}",
        str(row["size"]),
        errors[0],
        errors[1] if agreed is None else f"{errors[1]}, labels {100 * agreed:.1f} %",
        f"{row['pytorch']['max']:.1e}" if row.get("pytorch") else "-",
        f"{worth['sqnr']:.1f} dB" if worth.get("sqnr") is not None else "-",
        "runs" if row["onnxruntime"] == "runs" else "no",
        "builds" if engine["built"] else "no",
        f"{engine['bytes'] / 1e6:.1f}" if engine["built"] else "-",
        f"{100 * (1 - engine['operations'].get('fp32', 0)):.0f} %" if engine["built"] else "-",
    )


def _refusals(rows: list[Mapping[str, Any]]) -> list[str]:
    """Every message once, with the files that it concerns."""
    met: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if not row["exported"]:
            met.setdefault(("export", row["message"]), []).append(f"{row['network']} {row['asked']}")
            continue
        if not row["verify"]["passed"]:
            met.setdefault(("verify", row["verify"].get("message", "above its tolerance")), []).append(row["model"])
        if row["onnxruntime"] != "runs":
            met.setdefault(("ONNX Runtime", row["onnxruntime"]), []).append(row["model"])
        if not row["engine"]["built"]:
            message = row["engine"]["message"].replace(f"{row['model']}.onnx", "it")  # the same message for many files
            met.setdefault(("TensorRT-RTX", message), []).append(row["model"])
    return [f"{who}, {', '.join(files)}: `{message.strip()}`" for (who, message), files in met.items()]


def _nncf(result: Result, folder: str) -> str:
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for network in result.data["networks"]:
        environment = network["environment"]
        files = f"NNCF {environment['nncf']}; files of opset {network['opset']}"
        where = f"{machine(environment)}; {files}.{_without_units(environment)}\n"
        machines.setdefault(where, []).append(network)
    parts = [part for where, networks in machines.items() for part in (where, *_nncf_tables(networks))]
    return "\n".join([*parts, source(result, folder)])


def _nncf_tables(networks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Errors of all files, and speeds if there are some, on one machine."""
    heads = (
        "network",
        "weights",
        "size",
        "runtime",
        "file",
        "mean of range",
        "max",
        "SQNR",
        "AbsRel (FP32)",
        "ours / NNCF",
    )
    rows = (_compared(network, row) for network in networks for row in network["files"])
    yield markdown(TextTable(heads, tuple(rows)))
    speeds = tuple(
        (
            network["network"],
            network["size"],
            runtime,
            _interval(found.get("ratio"), 2) if "ratio" in found else found["message"],
            str(found.get("rounds", "-")),
        )
        for network in networks
        for runtime, found in network["speed"].items()
    )
    if speeds:
        yield markdown(TextTable(("network", "size", "runtime", "our speed / NNCF's", "rounds"), speeds))


def _smoothing(result: Result, folder: str) -> str:
    rows = tuple(
        (
            row["network"],
            row["weights"],
            row["size"],
            str(row["images"]),
            str(row["smoothed_norms"]),
            _interval((row["ratio"]["value"], row["ratio"]["low"], row["ratio"]["high"]), 2),
        )
        for row in result.data["networks"]
    )
    heads = ("network", "weights", "size", "images", "smoothed norms", "squared error, smoothed over plain")
    where = f"{machine(result.data['environment'])}.\n"
    return "\n".join([where, markdown(TextTable(heads, rows)), source(result, folder)])


def _compared(network: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, ...]:
    """One file in one runtime; the paired ratio of the mean errors stands in our row."""
    about = (network["network"], network["weights"], network["size"], row["runtime"], row["maker"])
    if "message" in row:
        return (*about, row["message"], "-", "-", "-", "-")
    paired = network["paired"][row["runtime"]] if row["maker"] == "ours" else None
    exact = network["fp32_abs_rel"]
    return (
        *about,
        f"{_mean(row['mean']):.2e}",
        f"{_mean(row['max']):.2e}",
        f"{row['sqnr']:.1f} dB",
        f"{_mean(row['abs_rel']):.4f} ({_mean(exact):.4f})" if exact else "-",
        _interval((paired["value"], paired["low"], paired["high"]), 2) if paired else "-",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _memory(result: Result, folder: str) -> str:
    data = result.data
    facts = TextTable(
        ("model", "images", "sizes", "weights", "peak", "peak with few images", "FP32 export", "difference", "time"),
        (
            (
                data["model"],
                str(data["images"]),
                ", ".join(data["sizes"]),
                f"{data['weights_bytes'] / 1e9:.2f} GB",
                f"{data['peak_bytes'] / 1e9:.2f} GB",
                f"{data['peak_bytes_of_few'] / 1e9:.2f} GB ({data['few']} images)",
                f"{data['peak_bytes_of_fp32'] / 1e9:.2f} GB",
                f"{(data['peak_bytes'] - data['peak_bytes_of_fp32']) / 1e9:.2f} GB",
                f"{data['seconds'] / 60:.0f} min",
            ),
        ),
    )
    return f"{markdown(facts)}\n{source(result, folder)}"


def _interval(estimate: tuple[float, float, float] | None, digits: int) -> str:
    if not estimate:
        return "-"
    value, low, high = estimate
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


PRECISION_KINDS: dict[str, Section] = {
    "sweep": Section(
        "Precisions: error against time",
        "`dpt-deploy sweep`: every precision at every size on the same images. Precisions that this machine computes\n"
        "in are timed, interleaved. The others (`emu`) predict the error of an engine and have no time here.\n"
        "Best: no other row is both faster and more accurate.",
        _sweep,
        lazy_drawing("dpt_deploy.report.figures.pareto_figure:draw_pareto"),
    ),
    "precisions": Section(
        "Precisions: the networks of the paper, and tiny",
        "`python benchmarks/precision_survey.py`: each file was exported and checked, compared with\n"
        "PyTorch at the size (largest and mean difference over the range of the output; 16 bits, `int8` and `fp8` run\n"
        "in the runtime `emu`), loaded by ONNX Runtime at full optimisation, and built by TensorRT-RTX without a GPU.\n"
        "Max in PyTorch: PyTorch's own largest error in the same 16 bits on the same image. SQNR: compared with FP32.\n"
        "Low precision: share of the engine's arithmetic below FP32. Weights are random, except those of `tiny`.",
        _precisions,
    ),
    "nncf": Section(
        "Precisions: 8 bits compared with NNCF",
        "`python benchmarks/nncf_comparison.py`: our files (`int8-cpu` in ONNX Runtime, `int8-openvino` in\n"
        "OpenVINO) and those that NNCF makes of the same network from the same calibration images: for OpenVINO\n"
        "of the same graph, for ONNX Runtime of opset 20. In opset 23, `int8-openvino` has queries and keys in 8\n"
        "bits. Errors are distances to FP32, over the range of the output, on rendered scenes that calibrated\n"
        "nothing. Ours / NNCF: ratio of the mean errors over the same images, with its 95 % interval. Random weights\n"
        "have learned nothing, so they have no AbsRel. Speeds are interleaved, some runs in a row. Without a unit for\n"
        "8-bit products, OpenVINO computes them in floats and nothing is timed. Its graphs have one size (decision\n"
        "61), those of opset 20 had any. It computes some graphs of any size wrong (decision 57), NNCF's among them.",
        _nncf,
    ),
    "smoothing": Section(
        "Precisions: does smoothing lower the error of 8 bits?",
        "`python benchmarks/smoothing.py`: `int8-cpu` with and without `--smooth`. Squared errors are those to FP32,\n"
        "on rendered scenes that calibrated nothing; the ratio is paired, with its 95 % interval. Below 1 is a gain.",
        _smoothing,
    ),
    "calibration-memory": Section(
        "Memory of a calibration",
        "`python benchmarks/calibration_memory.py`: peak resident set of an INT8 export over many images and sizes.",
        _memory,
    ),
}
