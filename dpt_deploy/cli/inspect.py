"""``dpt-deploy inspect``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.artifact.bom import bill_of_materials
from dpt_deploy.artifact.records import ApproximationRecord, OperationRecord, OutputRecord
from dpt_deploy.artifact.sidecar import Sidecar, WeightsSource
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli.shared.engine_tables import engine_rows, time_table
from dpt_deploy.cli.shared.options import artifact_argument, json_option, signature_options
from dpt_deploy.cli.shared.output import PARITY_COLUMNS, case_rows, print_facts, print_json, print_table
from dpt_deploy.core.spec import TensorSpec


@click.command()
@artifact_argument
@signature_options
@click.option(
    "--bom", is_flag=True, help="Print a bill of materials (CycloneDX 1.6, JSON) with a model card, and nothing else."
)
@json_option
def command(artifact: Path, public_key: Path | None, signature: Path | None, bom: bool, as_json: bool) -> None:
    """Show what an exported model contains and how it was verified. Its hashes are checked first."""
    from dpt_deploy.jobs.common.signed import check_if_asked
    from dpt_deploy.jobs.inspect import inspect_artifact

    check_if_asked(artifact, public_key, signature)
    if bom:
        print_json(bill_of_materials(open_artifact(artifact)))
        return
    found = inspect_artifact(artifact)
    if as_json:
        print_json(found.to_dict())
        return
    sidecar = found.sidecar
    size_mb = sum(payload.size_bytes for payload in sidecar.payloads) / 1e6
    rows = [
        ("model", f"{sidecar.model.name}, {' and '.join(sidecar.model.tasks)}"),
        ("weights", str(sidecar.weights)),
        ("licence", _licence(sidecar.weights)),
        *([("training data", sidecar.weights.training_data)] if sidecar.weights.training_data else []),
        *([("download checked by", sidecar.weights.checked)] if sidecar.weights.checked else []),
        ("precision", f"{sidecar.precision}, opset {sidecar.opset}"),
        *_approximation(sidecar.approximation),
        ("input", _tensor(sidecar.inputs[0])),
        *[("output", f"{_tensor(output)}: {_kind(output)}") for output in sidecar.outputs],
        ("sizes", _sizes(sidecar)),
        *([("parameters", f"{found.parameters:,} ({found.weight_bytes / 1e6:,.1f} MB)")] if found.parameters else []),
        ("files", f"{', '.join(payload.name for payload in sidecar.payloads)} ({size_mb:.1f} MB), hashes match"),
        *_operations(sidecar.operations),
        *_nodes(found.operators),
        *(engine_rows(sidecar.engine) if sidecar.engine else []),
        ("verified", _verified(sidecar)),
    ]
    print_facts(str(artifact), rows)
    if sidecar.engine and sidecar.engine.profile_times:
        print_table(*time_table(sidecar.engine))
    if sidecar.parity:
        print_table("measured parity", PARITY_COLUMNS, case_rows(sidecar.parity.cases))


def _licence(weights: WeightsSource) -> str:
    return f"{weights.licence or 'not known'}; commercial use: {weights.commercial or 'not recorded'}"


def _approximation(record: ApproximationRecord | None) -> list[tuple[str, str]]:
    if record is None:
        return []
    numbers = ", ".join(f"{name} {value:g}" for name, value in record.parameters.items())
    change = f"the result changes by {record.accuracy.change:.2%}, allowed {record.limit:.2%}"
    return [("approximation", f"{record.name}, {numbers}: {change}")]


def _sizes(sidecar: Sidecar) -> str:
    static = sidecar.shapes.static_size
    if sidecar.engine:
        return "; ".join(map(str, sidecar.engine.profiles))
    batch = "batch 1" if sidecar.shapes.single else "any batch"
    return f"only {static}, {batch}" if static else f"any multiple of {sidecar.shapes.stride}, {batch}"


def _nodes(operators: dict[str, int]) -> list[tuple[str, str]]:
    shown = ", ".join(f"{count} {name}" for name, count in list(operators.items())[:8])
    return [("nodes", f"{shown}, …")] if shown else []


def _operations(counts: OperationRecord | None) -> list[tuple[str, str]]:
    if counts is None:
        return []
    graph, original = counts.graph / 1e9, counts.original / 1e9
    text = f"{graph:.1f} GFLOP, {100 * counts.saved:.1f} % fewer than the original model ({original:.1f})"
    return [(f"operations at {counts.size}", text)]


def _kind(output: OutputRecord) -> str:
    return ", ".join(filter(None, (output.task, output.kind.quantity)))


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} ({', '.join(map(str, spec.shape))})"


def _verified(sidecar: Sidecar) -> str:
    parity = sidecar.parity
    if sidecar.engine and sidecar.engine.options.strip_weights:
        return "no: it has no weights; add them with `dpt-deploy refit`"
    if parity is None:
        return "no: run `dpt-deploy verify`"
    scope = "full matrix" if parity.matrix else "one small size; `dpt-deploy verify` runs the full matrix"
    return f"{'yes' if parity.verified else 'NO, it failed'} ({scope}, {parity.runtime})"
