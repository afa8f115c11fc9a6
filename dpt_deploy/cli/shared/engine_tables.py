"""Tables of an engine: its build, its precisions, the cost of its profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpt_deploy.artifact.records import AuditRecord, EngineOptions, EngineRecord, LayerTimes
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.profile import ProfileCost, ProfileTime

TIME_COLUMNS = ("profile", "first run", "steady run (95 %)", "switch from another profile")
Rows = Sequence[Sequence[str]]
Table = tuple[str, Sequence[str], Rows]  # title, columns, rows


def engine_rows(record: EngineRecord) -> list[tuple[str, str]]:
    """Return the facts about an engine as table rows."""
    return [
        ("engine", f"{record.library} {record.version}, built in {record.seconds:.1f} s"),
        ("built on", str(record.device) if record.device else "none: built without a GPU"),
        ("options", _options(record.options)),
        ("computes in", _shares(record.audit)),
        *_times(record.audit),
        ("attention", _attention(record.audit)),
        ("casts and Q/DQ", _between(record.audit)),
        *_slowest_casts(record.audit.times),
        (
            "device memory",
            f"weights {_megabytes(record.weight_bytes)}, activations at most about "
            f"{_megabytes(record.activation_bytes)} (predicted)",
        ),
    ]


def next_step(artifact: Artifact) -> str:
    """Return the advice for a plan that was just made."""
    engine = artifact.sidecar.engine
    if engine is not None and engine.options.strip_weights:
        model = artifact.sidecar.parents[0].name
        return (
            f"built without weights; add them on the GPU that will run it: `dpt-deploy refit {artifact.path} {model}`"
        )
    return "not verified: run `dpt-deploy verify` on the GPU that will run it"


def cost_table(costs: Sequence[ProfileCost], record: EngineRecord) -> Table:
    """Return title, columns and rows of the predicted and measured cost of each profile."""
    predicted = [(_megabytes(cost.activation_bytes), f"{cost.operations / 1e9:,.1f} GFLOP") for cost in costs]
    columns = ("activations", "arithmetic")
    names = [(str(cost.profile),) for cost in costs]
    if not record.profile_times:
        return "profiles (predicted)", ("profile", *columns), _joined(names, predicted)
    title, heads, times = time_table(record)
    return title, (*heads, *(f"{name} (predicted)" for name in columns)), _joined(times, predicted)


def _joined(left: Rows, right: Rows) -> Rows:
    return [(*one, *other) for one, other in zip(left, right, strict=True)]


def time_table(record: EngineRecord) -> Table:
    """Return title, columns and rows of the measured times of each profile."""
    where = record.measured_on.name if record.measured_on else "an unrecorded GPU"
    return f"profiles (measured on {where})", TIME_COLUMNS, [_time_row(time) for time in record.profile_times]


def _time_row(time: ProfileTime) -> tuple[str, ...]:
    median, low, high = (1e3 * seconds for seconds in time.steady)
    return (
        str(time.profile),
        _milliseconds(time.first),
        f"{median:.3f} ms ({low:.3f}-{high:.3f})",
        "-" if time.switch is None else f"{1e3 * time.switch:+.3f} ms",
    )


def _options(options: EngineOptions) -> str:
    shown = [f"level {options.level}"]
    if options.workspace_bytes:
        shown.append(f"workspace {_megabytes(options.workspace_bytes)}")
    named = ("version_compatible", "hardware_compatible", "strip_weights", "refit", "tf32")
    shown += [name.replace("_", "-") for name in named if getattr(options, name)]
    if options.compute_capabilities:
        shown.append(f"for {', '.join(options.compute_capabilities)}")
    return ", ".join(shown)


def _shares(audit: AuditRecord) -> str:
    time = _share(audit.times.precision, "of the computing time") if audit.times else ""
    operations = _share(audit.operations, "of the arithmetic")
    layers = _share(audit.layers, "of the layers")
    return "; ".join(part for part in (time, operations, layers) if part) + f" ({_METHODS[audit.method]})"


_METHODS = {"network": "from the network definition", "engine": "from the engine on its GPU"}


def _times(audit: AuditRecord) -> list[tuple[str, str]]:
    """Return how the time of the layers is spent, or why it was not measured."""
    times = audit.times
    if times is None:
        return [("time of layers", f"not measured: {audit.untimed}")] if audit.untimed else []
    parts = {
        "computing": sum(times.precision.values()),
        "casts and reformats": times.casts,
        "Q/DQ": times.qdq,
        "without floating-point numbers": times.other,
        "in layers unknown to the inspector": times.unknown,
    }
    shown = ", ".join(f"{_of(times, seconds)} {name}" for name, seconds in parts.items() if seconds)
    doubt = "" if times.is_meaningful else "; too much is unknown for a verdict"
    return [("time of layers", f"{_milliseconds(times.total)} a run at {times.shape}: {shown}{doubt}")]


def _between(audit: AuditRecord) -> str:
    """Return the number of casts and Q/DQ layers and, if measured, their cost."""
    times, counted = audit.times, f"{audit.quantize} Q, {audit.dequantize} DQ"
    if times is None:
        return f"{audit.casts} casts, {counted}"
    return f"{audit.casts} casts and reformats ({_cost(times, times.casts)}), {counted} ({_cost(times, times.qdq)})"


def _slowest_casts(times: LayerTimes | None) -> list[tuple[str, str]]:
    if times is None or not times.dearest:
        return []
    return [
        ("slowest casts", "; ".join(f"{name} ({_cost(times, seconds)})" for name, seconds in times.dearest.items()))
    ]


def _cost(times: LayerTimes, seconds: float) -> str:
    return f"{_milliseconds(seconds)}, {_of(times, seconds)} of the time"


def _of(times: LayerTimes, seconds: float) -> str:
    return f"{100 * seconds / (times.total or 1):.1f} %"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


def _share(counts: Mapping[str, float], what: str) -> str:
    total = sum(counts.values())
    parts = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in parts) + f" {what}" if total else ""


def _attention(audit: AuditRecord) -> str:
    fused, decomposable = audit.attention.get("whole", 0), audit.attention.get("decomposable", 0)
    if not fused + decomposable:
        return "decomposed in the graph"
    if audit.times is not None:
        return f"{fused} fused kernels ({_cost(audit.times, audit.times.attention)})"
    return f"{fused} fused, {decomposable} that the builder may decompose"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
