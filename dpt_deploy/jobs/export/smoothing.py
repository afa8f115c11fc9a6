"""Smooth the channels behind LayerNorms before 8 bits, where that wins: it moves their spread into weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dpt_deploy.core.precision import FP32, find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.graph.mark import mark_outputs
from dpt_deploy.graph.passes.smooth import candidates, smooth
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.correction import loss_ratio, outputs_of, squared_errors, with_chosen_correction
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import CalibrationTable, calibrate
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.measure.metrics import range_error


def with_chosen_smoothing(
    graph: ir.Model, full: Path, setup: MeasurementSetup, files: Iterable[str]
) -> tuple[ir.Model, CalibrationTable, int]:
    """Calibrate the FP32 ``graph``, which is also the file ``full``, and where that is requested a smoothed copy too.

    ``files`` are the precisions that will be written. The smoothed copy is kept if the 95 % interval of the ratio of
    squared errors, image by image, lies below 1 for every output; each has its own ranges and its own corrections of
    biases. The file of the CPU is compared if there is one, else the first.

    Returns:
        The graph to quantise, its table, and the number of smoothed norms.
    """
    table = _calibrated(graph, full, setup)
    model, norms = smoothed(graph, full, setup) if setup.request.smooth else (graph, 0)
    if not norms:
        return graph, table, 0
    other = _calibrated(model, full.with_name("smooth.onnx"), setup)
    names = list(files)
    name = next((each for each in names if find_precision(each).cpu_runtime), names[0])
    exact, path = outputs_of(full, setup), full.with_name("variant.onnx")
    found = loss_ratio(
        squared_errors(model, name, other, path, exact, setup), squared_errors(graph, name, table, path, exact, setup)
    )
    wins = found.high < 1.0
    verdict = "kept" if wins else "left out"
    say(f"smoothing {verdict}: it changes the squared error {found.value:.2f} times ({found.low:.2f}-{found.high:.2f})")
    return (model, other, norms) if wins else (graph, table, 0)


def _calibrated(graph: ir.Model, path: Path, setup: MeasurementSetup) -> CalibrationTable:
    return with_chosen_correction(graph, path, calibrate(path, setup), setup)


def smoothed(graph: ir.Model, full: Path, setup: MeasurementSetup) -> tuple[ir.Model, int]:
    """Smooth a copy of the FP32 ``graph``, which is also the file ``full``.

    Returns:
        The copy and the number of smoothed norms; or ``graph`` itself and 0, if smoothing would move the output by more
        than the recipe's FP32 tolerance.
    """
    names, marked, changed = candidates(graph), full.with_name("marked.onnx"), full.with_name("smooth.onnx")
    if not names:
        say("there is no LayerNorm to smooth")
        return graph, 0
    limit = setup.request.recipe.parity[FP32].max
    mark_outputs(full, names, marked)
    largest: dict[str, np.ndarray] = {}
    with open_runner(marked) as runner:
        for inputs in setup.few_inputs():
            for name, values in runner.infer(inputs).items():
                found = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
                largest[name] = np.maximum(largest.get(name, found), found)
    model = graph.clone()
    outcome = smooth(model, largest)
    save_graph(model, changed)
    inputs = next(setup.calibration_inputs())
    with open_runner(full) as before, open_runner(changed) as after:
        old, new = (runner.infer(inputs) for runner in (before, after))
    moved = max(range_error(new[name], old[name])[0] for name in old)
    if moved > limit:
        say(f"smoothing moves the output by {moved:.1e} of its range, more than {limit:.1e}: left out")
        return graph, 0
    say(f"smoothed {len(outcome.fired)} norms, {len(outcome.refused)} refused; the output moves by {moved:.1e}")
    return model, len(outcome.fired)
