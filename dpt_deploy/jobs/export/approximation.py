"""Measure what an approximate rewrite of the network costs, and refuse one that costs too much."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from dpt_deploy.artifact.records import ApproximationRecord
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.export.accuracy import check_accuracy
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.request import APPROXIMATION_LIMIT, Approximation
from dpt_deploy.jobs.export.typed import save_graph


def measure_approximation(
    approximation: Approximation, exact: ir.Model, graph: ir.Model, setup: MeasurementSetup, *, force: bool
) -> ApproximationRecord:
    """Compare the approximated FP32 ``graph`` with the ``exact`` one, on the images of the accuracy record.

    Random weights are held to the limit as well, although their result means nothing.

    Raises:
        ParityError: the result changes by more than the budget (without one: :data:`APPROXIMATION_LIMIT`), which
            ``force`` permits. An output that is not finite is never permitted.
    """
    budget = setup.request.budget
    limit = APPROXIMATION_LIMIT if budget is None else budget
    with tempfile.TemporaryDirectory(dir=setup.folder) as scratch:
        full, approximate = Path(scratch) / "exact.onnx", Path(scratch) / "approximate.onnx"
        save_graph(exact, full)
        save_graph(graph, approximate)
        say(f"{approximation.name}: comparing with the exact network")
        bench = setup.bench(full)
        found = replace(bench.compare(approximate, "ort"), speedup=bench.speedup(approximate))
    # The file may be for another device: its speed on this one is recorded, but no reason to refuse it.
    check_accuracy(approximation.name, found, None if force else limit, allow_poor=True)
    return ApproximationRecord(approximation.name, approximation.parameters, limit, found)
