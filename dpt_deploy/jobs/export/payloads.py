"""Write the graphs of an export, one file per precision, and collect what their sidecars record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from dpt_deploy.artifact.records import QuantisationRecord
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.export.accuracy import check_accuracy
from dpt_deploy.jobs.export.budget import within_budget
from dpt_deploy.jobs.export.facts import GraphFacts
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import quantised
from dpt_deploy.jobs.export.smoothing import with_chosen_smoothing
from dpt_deploy.jobs.export.typed import save_described, save_graph, write_typed


def write_graphs(
    graph: ir.Model,
    setup: MeasurementSetup,
    paths: Mapping[str, Path],
    *,
    metadata: Mapping[str, Mapping[str, str]],
    allow_poor: bool,
) -> dict[str, GraphFacts]:
    """Write the FP32 ``graph`` in each precision of ``paths`` to its file, with the ``metadata`` of the precision.

    All of them answer one request, so several are quantised from one calibration.

    Raises:
        BadFileError: a tensor is not finite in FP32.
        ParityError: a quantised graph is broken, over the budget, or slower than FP32 (permitted by ``allow_poor``).
        ResourceError: disk or memory.
    """
    asked = find_precision(setup.request.precision)
    if asked.quantised:
        return _write_quantised(graph, setup, paths, metadata, allow_poor=allow_poor)
    path = paths[asked.name]
    if asked.is_half:
        return {asked.name: write_typed(graph, asked.name, setup, path, metadata[asked.name])}
    save_described(graph, path, metadata[asked.name])
    return {asked.name: GraphFacts()}


def _write_quantised(
    graph: ir.Model,
    setup: MeasurementSetup,
    paths: Mapping[str, Path],
    metadata: Mapping[str, Mapping[str, str]],
    *,
    allow_poor: bool,
) -> dict[str, GraphFacts]:
    """Calibrate once; write and measure every file of ``paths``."""
    request, full = setup.request, setup.folder / "full.onnx"
    save_graph(graph, full)
    held_out = setup.bench(full)
    model, table, norms = with_chosen_smoothing(graph, full, setup, paths)
    if request.budget is not None:
        search = setup.bench(full, search=True)
        table = within_budget(model, next(iter(paths)), table, search, held_out, request.budget, setup.folder)
    facts = {}
    for name, path in paths.items():
        save_described(quantised(model, name, table), path, metadata[name])
        say(f"{name}: comparing with fp32")
        kind = find_precision(name)
        found = held_out.compare(path, kind.reference_runtime)
        if kind.cpu_runtime:
            found = replace(found, speedup=held_out.speedup(path, kind.cpu_runtime))
        check_accuracy(name, found, request.budget, allow_poor=allow_poor)
        twin = next((other.name for precision, other in paths.items() if precision != name), "")
        record = QuantisationRecord(
            request.method,
            table.clip,
            table.kept,
            request.budget,
            found,
            twin,
            request.smooth,
            norms,
            len(table.shifts.get(name, ())),
        )
        facts[name] = GraphFacts(table.fp32_nodes if kind.has_half_floats else {}, table.ranges, record)
    return facts
