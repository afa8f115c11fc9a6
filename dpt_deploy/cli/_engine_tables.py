"""How an engine is shown: what it was built by, what it computes in, what its profiles cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dpt_deploy.core.artifact import Artifact
from dpt_deploy.core.profile import ProfileCost
from dpt_deploy.core.record import AuditRecord, EngineOptions, EngineRecord

COST_COLUMNS = ("profile", "activations", "arithmetic")


def engine_rows(record: EngineRecord) -> list[tuple[str, str]]:
    """Facts of an engine."""
    return [
        ("engine", f"{record.library} {record.version}, built in {record.seconds:.1f} s"),
        ("built on", str(record.device) if record.device else "none: built without a GPU"),
        ("options", _options(record.options)),
        ("computes in", _shares(record.audit)),
        ("attention", _attention(record.audit)),
        ("casts and Q/DQ", f"{record.audit.casts} casts, {record.audit.quantize} Q, {record.audit.dequantize} DQ"),
        (
            "device memory",
            f"weights {_megabytes(record.weight_bytes)}, activations at most about "
            f"{_megabytes(record.activation_bytes)} (predicted)",
        ),
    ]


def next_step(artifact: Artifact) -> str:
    """What to do with a plan that was just made."""
    engine = artifact.sidecar.engine
    if engine is not None and engine.options.strip_weights:
        model = artifact.sidecar.parents[0].name
        return (
            "built without its weights, which it needs to run: on the GPU that will run it, "
            f"`dpt-deploy refit {artifact.path} {model}`"
        )
    return "not verified: run `dpt-deploy verify` on the GPU that will run it"


def cost_rows(costs: Sequence[ProfileCost]) -> list[tuple[str, str, str]]:
    """One row a profile."""
    return [
        (str(cost.profile), _megabytes(cost.activation_bytes), f"{cost.operations / 1e9:,.1f} GFLOP") for cost in costs
    ]


def _options(options: EngineOptions) -> str:
    told = [f"level {options.level}"]
    if options.workspace_bytes:
        told.append(f"workspace {_megabytes(options.workspace_bytes)}")
    named = ("version_compatible", "hardware_compatible", "strip_weights", "refit", "tf32")
    told += [name.replace("_", "-") for name in named if getattr(options, name)]
    if options.compute_capabilities:
        told.append(f"for {', '.join(options.compute_capabilities)}")
    return ", ".join(told)


def _shares(audit: AuditRecord) -> str:
    operations = _share(audit.operations, "of the arithmetic")
    layers = _share(audit.layers, "of the layers")
    return "; ".join(part for part in (operations, layers) if part) + f" ({_METHODS[audit.method]})"


_METHODS = {"network": "as the network says", "engine": "as the engine on its GPU says"}


def _share(counts: Mapping[str, int], what: str) -> str:
    total = sum(counts.values())
    parts = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{name} {100 * count / total:.1f} %" for name, count in parts) + f" {what}" if total else ""


def _attention(audit: AuditRecord) -> str:
    whole, parted = audit.attention.get("whole", 0), audit.attention.get("decomposable", 0)
    if not whole + parted:
        return "none whole: taken apart in the graph"
    return f"{whole} whole, {parted} that the builder may take apart"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
