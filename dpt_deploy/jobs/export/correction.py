"""Keep the corrections of biases of an 8-bit graph only where they win: they fix means, and not every error is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.export.measurements import MeasurementSetup
from dpt_deploy.jobs.export.quantised import CalibrationTable, quantised
from dpt_deploy.jobs.export.typed import save_graph
from dpt_deploy.measure.bootstrap import RESAMPLES, Estimate, image_weights


def with_chosen_correction(
    graph: ir.Model, full: Path, table: CalibrationTable, setup: MeasurementSetup
) -> CalibrationTable:
    """Return ``table``, without its corrections unless they lower the squared error of the output.

    The CPU's file of the FP32 ``graph``, which is also the file ``full``, is compared with and without them on the
    images that they were measured on. The 95 % interval of the paired ratio has to lie below 1, for every output.
    """
    name = next((each for each in table.shifts if find_precision(each).cpu_runtime), "")
    if not name:
        return replace(table, shifts={})
    path, plain = full.with_name("variant.onnx"), replace(table, shifts={})
    exact = outputs_of(full, setup)
    found = loss_ratio(*(squared_errors(graph, name, variant, path, exact, setup) for variant in (table, plain)))
    wins = found.high < 1.0
    verdict = "corrected" if wins else "not corrected"
    say(f"biases {verdict}: that changes the squared error {found.value:.2f} times ({found.low:.2f}-{found.high:.2f})")
    return table if wins else plain


def squared_errors(
    graph: ir.Model,
    name: str,
    table: CalibrationTable,
    path: Path,
    exact: Sequence[Sequence[np.ndarray]],
    setup: MeasurementSetup,
) -> list[np.ndarray]:
    """Return the mean squared error of each output to ``exact``, one number per image, of the precision ``name``.

    The graph is quantised by ``table`` into the file ``path``.
    """
    save_graph(quantised(graph, name, table), path)
    outputs = outputs_of(path, setup, find_precision(name).reference_runtime)
    return [
        np.array([np.mean((output - wanted) ** 2) for output, wanted in zip(*pair, strict=True)])
        for pair in zip(outputs, exact, strict=True)
    ]


def loss_ratio(candidate: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> Estimate:
    """Return the paired ratio of the output that the candidate helps least; both are :func:`squared_errors`."""
    return max((paired_ratio(*each) for each in zip(candidate, reference, strict=True)), key=lambda ratio: ratio.high)


def paired_ratio(candidate: np.ndarray, reference: np.ndarray) -> Estimate:
    """Return the mean of ``candidate`` over that of ``reference``, one number per image each; 1 if it is not known."""
    if len(reference) < 2 or not reference.all():
        return Estimate(1.0, 1.0, 1.0)
    weights = image_weights(len(reference), 0, RESAMPLES)
    return Estimate.of((weights @ candidate) / (weights @ reference))


def outputs_of(path: Path, setup: MeasurementSetup, runtime: str = "ort") -> list[list[np.ndarray]]:
    """Return each output for a few calibration images."""
    with open_runner(path, runtime) as runner:
        found = [runner.infer(each).values() for each in setup.few_inputs()]
    return [[values.astype(np.float64) for values in output] for output in zip(*found, strict=True)]
