"""The report of a run, one page: every step with its status, what was measured, and what was not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from work import Place

SUMMARY = "summary.json"  # goes into benchmarks/results/ as gpu-….json; dpt_deploy/report/ shows it
LIMIT_BYTES = 15_000_000
LOG_BYTES = 150_000  # kept of one step's log: its end
NOT_MEASURED = "TensorRT not measured"
# Targets of the project: H200, FP16, batch 1, 384 x 384, host clock around a run on the device.
WANTED_MS = {"large": 1.6, "hybrid": 1.2}
SUBSTITUTES = ("torch-compile-device", "ort")
_FOLDERS = ("", "compiled", "frames")  # of the results, with the timings
ENQUEUE, WANTED_OVERHEAD = "trt-enqueue-device", 0.02
SIZE, LARGE_BATCH, WANTED_SHARE = "384", 16, 0.6
FRAMES, WANTED_FRAMES = "trt-frames", 0.05
WANTED_RATIO = {"torch-compile-device": 1.5, "torch-device": 3.0}


def write_report(place: Place, names: Sequence[str]) -> str:
    """Write ``REPORT.md``, keep the folder below its limit, and return a line with the path."""
    page = "\n".join(_page(place, names)) + "\n"
    (place.results / "REPORT.md").write_text(page)
    place.write(SUMMARY, summary(place))
    for log in (place.results / "steps").glob("*.log"):
        data = log.read_bytes()
        if len(data) > LOG_BYTES:
            log.write_bytes(b"(the beginning was cut off)\n" + data[-LOG_BYTES:])
    size = sum(path.stat().st_size for path in place.results.rglob("*") if path.is_file())
    if size > LIMIT_BYTES:
        raise SystemExit(f"{place.results} has {size / 1e6:.1f} MB; expected less than {LIMIT_BYTES / 1e6:.0f}")
    return f"report: {place.results / 'REPORT.md'} ({size / 1e6:.2f} MB of results)"


def summary(place: Place) -> dict[str, Any]:
    """Return what was measured on a GPU, as one result of the kind ``gpu``."""
    machine, probe = place.read("machine.json"), place.read("probe.json")
    keys = ("library", "version", "reached", "messages", "error", "largest_error")
    return {
        "kind": "gpu",
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": machine.get("environment", {}),
        "torch": place.read("torch.json"),
        "library": probe.get("library", ""),
        "version": probe.get("version", ""),
        "tried": [{key: entry[key] for key in keys if key in entry} for entry in probe.get("tried", [])],
        "verified": [
            _verified(place, path.name)
            for path in sorted(place.results.glob("verify-*.json"))
            if place.read(path.name).get("cases")
        ],
        "timed": [
            {key: result[key] for key in ("model", "weights", "rows")}
            for folder in _FOLDERS
            for result in (json.loads(path.read_text()) for path in _latencies(place, folder))
        ],
        "native": [
            {"model": path.stem.removeprefix("native-"), **json.loads(path.read_text())}
            for path in sorted(place.results.glob("native-*.json"))
        ],
    }


def _verified(place: Place, name: str) -> dict[str, Any]:
    """Worst errors of one verification, and the time of the engine's layers if it was asked for them."""
    found = place.read(name)
    model = name.removeprefix("verify-").removesuffix(".json")
    audit = place.read(f"audit-{model}.json").get("sidecar", {}).get("engine", {}).get("audit", {})
    return {
        "model": model.removeprefix("native-").removeprefix("onnx-"),
        "runtime": found["runtime"],
        "weights": found["weights"],
        "passed": all(case["passed"] for case in found["cases"]),
        "shapes": [f"{case['size']} batch {case['batch']}" for case in found["cases"]],
        "max": max(case["max"] for case in found["cases"]),
        "mean": max(case["mean"] for case in found["cases"]),
        "tolerance": found["tolerance"],
        "layer_times": audit.get("times"),
    }


def _latencies(place: Place, folder: str) -> list[Path]:
    return sorted((place.results / folder).glob("latency-*.json"))


def _page(place: Place, names: Sequence[str]) -> Iterator[str]:
    probe = place.read("probe.json")
    results = [json.loads(path.read_text()) for folder in _FOLDERS for path in _latencies(place, folder)]
    timed = {row["contender"] for result in results for row in result["rows"]}
    measured = any(name.startswith("trt") for name in timed)
    yield f"# GPU kit on {probe.get('gpu') or 'a machine without a GPU'}"
    yield ""
    if not measured:
        yield f"**{NOT_MEASURED}.** {_why(place)}"
    if probe.get("gpu") and "ort" not in timed:
        yield "ONNX Runtime not measured: its CUDA provider is not here (pack with --with-ort-gpu)."
    if not probe.get("gpu"):
        yield "No GPU was found: what follows is a rehearsal on the processor and says nothing about a GPU."
    yield from ("", "## Steps", "", "| step | status | seconds | reason |", "|---|---|---|---|")
    for name in names:
        status, seconds, reason = _status(place, name)
        yield f"| {name} | {status} | {seconds} | {reason.replace('|', '/')} |"
    yield from ("", "## Libraries tried", "", "| library | version | came as far as | error |", "|---|---|---|---|")
    for entry in probe.get("tried", []):
        error = " ".join(str(entry.get("error", "")).split())[:300].replace("|", "/")
        yield f"| {entry['library']} | {entry['version']} | {entry['reached'] or 'not even the import'} | {error} |"
    yield from ("", "`probe.json` has every message, word for word.")
    for result in results:
        yield from _timings(result)
    yield from _audits(place)
    yield from _profiles(place)
    if probe.get("gpu"):
        yield from _wanted(results)
        yield from _against_fp16(results)


def _why(place: Place) -> str:
    status, _, reason = _status(place, "probe")
    return reason or f"The probe's status is: {status}."


def _status(place: Place, name: str) -> tuple[str, str, str]:
    path = place.results / "steps" / f"{name}.status"
    if not path.is_file():
        return "not reached", "", ""
    status, seconds, reason = [*path.read_text().rstrip("\n").split("\t"), "", ""][:3]
    return status, seconds, reason


def _timings(result: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"## {result['model']} (weights: {result['weights']})", "", result["protocol"], "")
    yield from (f"- {name}: {text}" for name, text in result.get("contenders", {}).items())
    yield from (
        "",
        "| size | batch | candidate | p50 ms | 95 % interval | p99 ms | images/s |",
        "|---|---|---|---|---|---|---|",
    )
    for row in result["rows"]:
        low, high = row["interval_ms"]
        yield (
            f"| {row['size']} | {row['batch']} | {row['contender']} | {row['p50_ms']:.3f} | {low:.3f} to {high:.3f} | "
            f"{row['p99_ms']:.3f} | {row['images_per_second']:.1f} |"
        )
    for row in result["rows"]:
        if parts := row.get("parts_ms"):
            each = ", ".join(f"{name} {value:.3f}" for name, value in parts.items())
            yield from ("", f"Parts of {row['contender']} at {row['size']}, each alone, in ms: {each}.")


def _wanted(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Compare the targets with what was measured; a substitute appears under its own name, never as TensorRT."""
    yield from ("", "## Figures to reach (FP16, 384, batch 1; frames at 384x672)", "")
    yield from ("| model | wanted of TensorRT | measured |", "|---|---|---|")
    for model in dict.fromkeys(result["model"] for result in results):
        name, _, precision = model.rpartition("-")
        if precision == "fp16":
            yield from _wanted_of(name, [result for result in results if result["model"] == model])


def _wanted_of(model: str, results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows of one model; a ratio is taken within one run, in which both were interleaved."""
    frames = [{r["contender"]: r["p50_ms"] for r in result["rows"]} for result in results]
    runs = [{r["contender"]: r["p50_ms"] for r in result["rows"] if _counts(r)} for result in results]
    if model in WANTED_MS:
        measured = next((rows["trt-device"] for rows in runs if "trt-device" in rows), None)
        instead = [f"{name} {rows[name]:.3f} ms" for rows in runs for name in SUBSTITUTES if name in rows]
        nothing = "; ".join([NOT_MEASURED, ", ".join(instead)] if instead else [NOT_MEASURED])
        yield f"| {model} | at most {WANTED_MS[model]} ms | {f'{measured:.3f} ms' if measured else nothing} |"
    for name, least in WANTED_RATIO.items():
        ratio = next((rows[name] / rows["trt-device"] for rows in runs if {name, "trt-device"} <= set(rows)), None)
        found = f"{ratio:.2f}" if ratio else NOT_MEASURED
        yield f"| {model} | {name} at least {least} times slower | {found} |"
    bare = next((rows["trt-device"] / rows[ENQUEUE] - 1 for rows in runs if {ENQUEUE, "trt-device"} <= set(rows)), None)
    found = NOT_MEASURED if bare is None else f"{bare:.1%}"
    yield f"| {model} | the runner at most {WANTED_OVERHEAD:.0%} over the bare enqueue | {found} |"
    full = next((rows[FRAMES] / rows["trt-device"] - 1 for rows in frames if FRAMES in rows), None)
    found = NOT_MEASURED if full is None else f"{full:.1%}"
    yield f"| {model} | full HD frames, overlapping, at most {WANTED_FRAMES:.0%} over the network alone | {found} |"
    share = _of_ceiling(results)
    found = NOT_MEASURED if share is None else f"{share:.0%}"
    yield f"| {model} | batch {LARGE_BATCH} at least {WANTED_SHARE:.0%} of the measured matrix ceiling | {found} |"


def _profiles(place: Place) -> Iterator[str]:
    """Tables of the measured profiles."""
    for path in sorted(place.results.glob("profiles-*.json")):
        rows = [
            (row["profile"], row["measured"]) for row in json.loads(path.read_text())["profiles"] if row["measured"]
        ]
        if not rows:
            continue
        yield from ("", f"## Profiles: {path.stem.removeprefix('profiles-')}", "")
        yield "| profile | first run ms | steady ms | 95 % interval | after another ms |"
        yield "|---|---|---|---|---|"
        for profile, row in rows:
            steady, low, high = (1e3 * value for value in row["steady_seconds"])
            switch = "" if row["switch_seconds"] is None else f"{1e3 * row['switch_seconds']:+.3f}"
            first = 1e3 * row["first_seconds"]
            yield f"| {profile} | {first:.3f} | {steady:.3f} | {low:.3f} to {high:.3f} | {switch} |"


def _audits(place: Place) -> Iterator[str]:
    """Time of each verified engine by the precision of its layers."""
    rows = []
    for path in sorted(place.results.glob("audit-*.json")):
        engine = json.loads(path.read_text())["sidecar"]["engine"]
        times = engine["audit"]["times"]
        if times is None:
            rows.append(
                f"| {path.stem.removeprefix('audit-')} | {engine['audit']['untimed'] or 'not measured'} | | | |"
            )
            continue
        kinds = sorted(times["precision"].items(), key=lambda entry: -entry[1])
        each = ", ".join(f"{name} {1e3 * seconds:.3f}" for name, seconds in kinds)
        spent = [f"{1e3 * times[name]:.3f}" for name in ("casts", "qdq", "attention")]
        rows.append(f"| {path.stem.removeprefix('audit-')} | {each} | {' | '.join(spent)} |")
    if rows:
        yield from ("", "## Time of the engines' layers (ms a run)", "")
        yield from (
            "| engine | computing layers, by precision | casts | Q/DQ | attention (included) |",
            "|---|---|---|---|---|",
            *rows,
        )


def _against_fp16(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Compare 8-bit engines with the FP16 one, model by model."""
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for result in results:
        name, _, precision = result["model"].rpartition("-")
        for row in result["rows"]:
            if row["contender"] == "trt-device" and row["size"] == SIZE:
                found.setdefault((name, row["size"], row["batch"]), {}).setdefault(precision, row["p50_ms"])
    rows = {key: times for key, times in found.items() if "fp16" in times and len(times) > 1}
    if not rows:
        return
    yield from ("", "## 8 bits compared with FP16 (trt-device, p50 ms; separate runs, so no ratios)", "")
    yield from ("| model | size | batch | by precision |", "|---|---|---|---|")
    for (name, size, batch), times in rows.items():
        yield f"| {name} | {size} | {batch} | {', '.join(f'{kind} {value:.3f}' for kind, value in times.items())} |"


def _counts(row: dict[str, Any]) -> bool:
    return (row["size"], row["batch"]) == (SIZE, 1)


def _of_ceiling(results: Sequence[dict[str, Any]]) -> float | None:
    """Best share of the measured matrix ceiling that the engine reaches at batch 16; None if not measured."""
    shares = [
        row["share_of_ceiling"]
        for result in results
        for row in result["rows"]
        if (row["contender"], row["size"], row["batch"]) == ("trt-device", SIZE, LARGE_BATCH)
    ]
    return max((share for share in shares if share is not None), default=None)
